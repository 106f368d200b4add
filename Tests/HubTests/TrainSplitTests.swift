// Tests of the choice of a dataset's files. The expected files are those that the Python library datasets 5.2
// chooses.

import ByteJSON
import Foundation
import TestSupport
import Testing

@testable import Hub

struct TrainSplitTests {
    private func card(_ configs: String) throws -> DatasetCard {
        let text = Array(#"{"configs": \#(configs)}"#.utf8)
        return DatasetCard(try text.withUnsafeBufferPointer { try JSONValue(parsing: $0) })
    }

    private func choose(_ paths: [String], _ configs: String = "null") throws -> TrainSplit.Choice {
        try TrainSplit.choose(paths, try card(configs))
    }

    private func refusal(_ paths: [String], _ configs: String = "null") throws -> String {
        let error = #expect(throws: NoTrainSplit.self) { try choose(paths, configs) }
        return error?.reason ?? ""
    }

    /// Returns the card's `configs` with one configuration, whose `data_files` are `files`.
    private func named(_ files: String, _ more: String = "") -> String {
        #"[{"config_name": "x", "data_files": \#(files)\#(more)}]"#
    }

    // MARK: Names

    @Test func namesTell() throws {
        for (paths, expected) in [
            (["README.md", "train.jsonl", "test.jsonl"], ["train.jsonl"]),
            (
                ["data/train-00001-of-00002.json.gz", "data/train-00000-of-00002.json.gz"],
                ["data/train-00000-of-00002.json.gz", "data/train-00001-of-00002.json.gz"]
            ),
            // If the folder `data` has shards, other names do not count.
            (
                ["data/train-00000-of-00001.jsonl", "train.jsonl"],
                ["data/train-00000-of-00001.jsonl"]
            ),
            (["train/a.json", "validation/a.json"], ["train/a.json"]),
            // If a folder has the split's name, files with the split's name do not count.
            (["train/a.jsonl", "train.jsonl"], ["train/a.jsonl"]),
            (
                ["AuthorMix_train.ndjson.zst", "AuthorMix_dev.ndjson.zst"],
                ["AuthorMix_train.ndjson.zst"]
            ),
            // The split's name counts only as a whole word in lower case.
            (["trained.jsonl", "strain.jsonl", "training.jsonl"], ["training.jsonl"]),
            (["Train.jsonl", "trained.jsonl"], ["Train.jsonl", "trained.jsonl"]),
            // Files are in the order of the patterns, in which `train` comes before `training`.
            (["a-training.jsonl", "b-train.jsonl"], ["b-train.jsonl", "a-training.jsonl"]),
            (["authors.json"], ["authors.json"]),
            (["b.jsonl", "sub/a.json"], ["b.jsonl", "sub/a.json"]),
            (
                [
                    "authors.json", "dataset_infos.json", "dataset_info.json", "config.json",
                    ".cache/authors.json", "__x/a.json", ".a.json",
                ],
                ["authors.json"]
            ),
            // A file that matches two patterns is chosen once.
            (["train/train_1/a.jsonl"], ["train/train_1/a.jsonl"]),
        ] {
            #expect(try choose(paths) == TrainSplit.Choice(files: expected), "\(paths)")
        }
    }

    @Test func whatNamesTellOfOtherSplitsAlone() throws {
        #expect(
            try refusal(["test.jsonl"]).contains(
                "to the split test, and no file name belongs to the split train"))
        #expect(try refusal(["authors.json", "authors-test.json"]).contains("to the split test"))
        #expect(try refusal(["dev/a.json", "eval/b.json"]).contains("the splits validation, test"))
        #expect(
            try refusal(["data/random-00000-of-00001.jsonl", "train.jsonl"]).contains(
                "split random"))
        #expect(
            try refusal(["train_model.py", "a.jsonl"]).contains(
                "no JSON or JSONL files of the split"))
        #expect(try refusal(["train.parquet"]).contains("only parquet files"))
        #expect(
            try refusal(["dataset_infos.json", "data/train.parquet"]).contains("only parquet files")
        )
        #expect(try refusal([]).contains("no JSON or JSONL files"))
        #expect(try refusal([".huggingface.yaml", "a.jsonl"]).contains(".huggingface.yaml"))
    }

    /// Checks that a remark appears if files are read that a user may not expect.
    @Test func doubtfulNamesAreSaid() throws {
        let folder = try choose(["training/train.jsonl", "training/test.jsonl"])
        #expect(folder.files == ["training/test.jsonl", "training/train.jsonl"])
        #expect(folder.remarks.count == 1 && folder.remarks[0].hasSuffix(": training/test.jsonl"))
        let both = try choose(["train.json", "train.jsonl.gz"])
        #expect(both.files == ["train.json", "train.jsonl.gz"])
        #expect(
            both.remarks == [
                "train.json and train.jsonl.gz may contain the same records; all of them are read, as in the datasets library"
            ])
        #expect(try choose(["train.a.json", "train.b.json"]).remarks.isEmpty)
        let mixed = try choose(["a.jsonl", "b.jsonl", "c.csv"])
        #expect(mixed.files == ["a.jsonl", "b.jsonl"])
        #expect(mixed.remarks.count == 1 && mixed.remarks[0].hasSuffix(": c.csv"))
    }

    /// Checks that the choice is refused if the datasets library would read other or additional files.
    @Test func partsAreNotRead() throws {
        #expect(
            try refusal(["a.jsonl", "b.parquet"]).contains("program cannot read: b.parquet"))
        #expect(try refusal(["a.jsonl", "b.csv", "c.csv"]).contains("b.csv, c.csv"))
        #expect(
            try refusal(["a.jsonl", "b.jsonl.bz2"]).contains("b.jsonl.bz2 cannot be read"))
        #expect(try refusal(["a.jsonl", "a.jsonl.bak"]).contains("a.jsonl.bak"))
        #expect(try refusal(["a.jsonl", "b.jsonl", "c.zip"]).contains("c.zip"))
    }

    // MARK: Cards

    @Test func cardsNameFiles() throws {
        let paths = [
            "a.jsonl", "b/c.jsonl", "b/d/e.jsonl", "b/x.md", "b/.h.jsonl", "b/__s/f.jsonl",
        ]
        for (files, expected) in [
            (#""b/*.jsonl""#, ["b/c.jsonl"]), (#""b/**""#, ["b/c.jsonl", "b/d/e.jsonl"]),
            (#""**/*.jsonl""#, ["a.jsonl", "b/c.jsonl", "b/d/e.jsonl"]),
            (#""b/**/*.jsonl""#, ["b/c.jsonl", "b/d/e.jsonl"]),
            (#""*""#, ["a.jsonl"]), (#""b/?.jsonl""#, ["b/c.jsonl"]),
            (#""b/[!x].jsonl""#, ["b/c.jsonl"]), (#""[a-b].jsonl""#, ["a.jsonl"]),
            (#""b/.h.jsonl""#, ["b/.h.jsonl"]), (#""b/__s/*""#, ["b/__s/f.jsonl"]),
            (#"["b/d/e.jsonl", "a.jsonl"]"#, ["b/d/e.jsonl", "a.jsonl"]),
            (#"["*.jsonl", "a.jsonl"]"#, ["a.jsonl"]),
            (#""./a.jsonl""#, ["a.jsonl"]), (#""b//c.jsonl""#, ["b/c.jsonl"]),
            (
                #"[{"split": "test", "path": "a.jsonl"}, {"split": "train", "path": ["b/c.jsonl"]}]"#,
                ["b/c.jsonl"]
            ),
            (#"{"train": "a.jsonl", "test": "b/c.jsonl"}"#, ["a.jsonl"]),
        ] {
            #expect(
                try choose(paths, named(files)) == TrainSplit.Choice(files: expected), "\(files)")
        }
        let half = try choose(paths, named(#"["a.jsonl", "none*.jsonl"]"#))
        #expect(half.files == ["a.jsonl"] && half.remarks.count == 1)
    }

    @Test func cardsThatNameWhatIsNotReadAreRefused() throws {
        let paths = ["a.jsonl", "b.parquet", "data/a.jsonl", "c.md", "a.jsonl.xz"]
        for (files, words) in [
            (#"["a.jsonl", "b.jsonl"]"#, "the repository has no file b.jsonl"),
            (#"["a.jsonl", "b.parquet"]"#, "b.parquet is not a JSON"),
            (#""?.*""#, "b.parquet is not a JSON"),
            (#""c.md""#, "c.md is not a JSON"),
            (#""none*""#, "no JSON or JSONL file matches"),
            (#""a.jsonl.xz""#, "the training file a.jsonl.xz cannot be read"),
            (#""{a,b}.jsonl""#, "braces have no special meaning"),
            (#""hf://datasets/x/y/a.jsonl""#, "a.jsonl is not a supported pattern"),
            (#""zip://a.jsonl::x.zip""#, "not a supported pattern"),
            (#""/a.jsonl""#, "not a supported pattern"),
            (#""data/../a.jsonl""#, "not a supported pattern"),
            (#""**.jsonl""#, "not a supported pattern"),
            (
                #"[{"split": "test", "path": "a.jsonl"}]"#,
                "for the split test, but no files for the split train"
            ),
            (#"{"dev": "a.jsonl", "test": "a.jsonl"}"#, "the splits dev, test"),
            (#"[{"split": "train"}]"#, "data_files"),
            (#"["a.jsonl", {"split": "train", "path": "a"}]"#, "data_files"),
            (#"[{"split": "train", "path": "a"}, {"split": "train", "path": "b"}]"#, "data_files"),
            (#"[{"split": "train", "path": ["a.jsonl", 1]}]"#, "data_files"),
            ("7", "'data_files' with the value 7"),
            ("[]", "no JSON or JSONL file"),
        ] {
            let reason = try refusal(paths, named(files))
            #expect(reason.contains(words), "\(files): \(reason)")
        }
        for (configs, words) in [
            (
                named(#""a.jsonl""#, #", "field": "data""#),
                #"the key 'field' with the value "data""#
            ),
            (named(#""a.jsonl""#, #", "encoding": "latin-1""#), "encoding"),
            (named(#""a.jsonl""#, #", "data_dir": "../x""#), "data_dir"),
            (#""x""#, "expected a list"),
            (#"[{"data_files": "a.jsonl"}]"#, "config_name"),
            (
                #"[{"config_name": "en"}, {"config_name": "fr"}]"#,
                "none of them is the default: en, fr"
            ),
            (
                #"[{"config_name": "default"}, {"config_name": "fr", "default": true}]"#,
                "several default configurations: default, fr"
            ),
            (#"[{"config_name": "en"}, {"config_name": "en"}]"#, "two configurations"),
        ] {
            let reason = try refusal(paths, configs)
            #expect(reason.contains(words), "\(configs): \(reason)")
        }
    }

    @Test func theDefaultConfigurationCounts() throws {
        let paths = ["a.jsonl", "b.jsonl"]
        for configs in [
            #"[{"config_name": "x", "data_files": "a.jsonl"}, {"config_name": "default", "data_files": "b.jsonl"}]"#,
            #"[{"config_name": "x", "data_files": "a.jsonl"}, {"config_name": "y", "default": true, "data_files": "b.jsonl"}]"#,
            named(
                #""b.jsonl""#,
                #", "field": null, "encoding": "UTF-8", "data_dir": null, "sep": ",""#),
        ] {
            #expect(try choose(paths, configs).files == ["b.jsonl"], "\(configs)")
        }
        for configs in ["null", "[]", #"[{"config_name": "x"}]"#] {
            #expect(try choose(paths, configs).files == paths)
        }
    }

    @Test func foldersOfCards() throws {
        let paths = [
            "a.jsonl", "sub/a.jsonl", "subway/b.jsonl", "sub/test.jsonl", "sub/train/t.jsonl",
        ]
        for folder in ["sub", "sub/", "./sub", "sub/.//"] {
            let configs = #"[{"config_name": "x", "data_dir": "\#(folder)"}]"#
            #expect(try choose(paths, configs).files == ["sub/train/t.jsonl"])
            let both = named(#""a.jsonl""#, #", "data_dir": "\#(folder)""#)
            #expect(
                try choose(paths, both).files == ["sub/a.jsonl"],
                "files are named within the folder")
        }
        #expect(
            try choose(["a.json", "sub/b.json"], #"[{"config_name": "x", "data_dir": ""}]"#).files
                .count == 2)
        #expect(
            try refusal(paths, #"[{"config_name": "x", "data_dir": "none"}]"#).contains(
                "its folder none has no"))
    }

    /// Checks that many stars in a pattern do not make the match slow.
    @Test func patternsAreMatchedInSteps() throws {
        let path =
            String(repeating: "a", count: 2000) + "/"
            + Array(repeating: "a", count: 200).joined(separator: "/")
        let stars = try #require(GlobPattern(String(repeating: "*a", count: 500) + "b/**"))
        #expect(!stars.matches(path))
        let steps = try #require(GlobPattern(String(repeating: "**/a/", count: 100) + "b"))
        #expect(!steps.matches(path))
        #expect(try #require(GlobPattern("[]a-]x")).matches("]x"))
        #expect(try #require(GlobPattern("[ax")).matches("[ax"))
        #expect(try !#require(GlobPattern("data/**")).matches("data"))
    }

    // MARK: The README

    @Test func aReadmeTellsWhetherTheCardHasConfigs() throws {
        let folder = try TemporaryFolder()
        for (text, expected) in [
            ("---\nlicense: mit\nconfigs:\n- config_name: default\n---\n# X\n", true),
            ("\u{FEFF}---\r\n\"configs\" : []\r\n---\r\n", true),
            ("---\nlicense: mit\n---\nconfigs:\n", false),
            ("---\n#configs: no\nx:\n  configs: 1\n---\n", false),
            ("configs:\n", false), ("", false),
        ] {
            let path = try folder.write(text.utf8, "README.md")
            #expect(DatasetCard.hasConfigs(readme: path) == expected, "\(text)")
        }
        #expect(!DatasetCard.hasConfigs(readme: folder.file("none")))
    }
}
