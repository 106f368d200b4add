// Tests of flags, environment variables, help, and the files of a run that are not arrays.

import ArgumentParser
import ArrayFiles
import ByteJSON
import Files
import Foundation
import Hooks
import TestSupport
import Testing

@testable import sae_extract

struct CommandLineTests: UsingFolder {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private func normalized(_ arguments: [String], _ environment: [String: String] = [:]) throws
        -> [String]
    {
        try CommandLineArguments.normalized(arguments, environment: environment)
    }

    private func options(_ arguments: [String], _ environment: [String: String] = [:]) throws
        -> RunFlags
    {
        try SAEExtract.parse(normalized(arguments, environment)).flags
    }

    // MARK: Spelling

    @Test func kebabCaseIsTheSame() throws {
        let snake = try options(["--layers", "1", "2", "--n_docs_per_author", "7", "--save_dir=x"])
        let kebab = try options(["--layers", "1", "2", "--n-docs-per-author", "7", "--save-dir=x"])
        #expect(snake.corpus.perAuthor == 7 && kebab.corpus.perAuthor == 7)
        #expect(kebab.output.directory == "x" && kebab.model.layers == [1, 2])
    }

    @Test func aFlagGivenTwiceReplaces() throws {
        let command = try options([
            "--layers", "1", "2", "--exclude_authors", "a", "--layers", "3", "--exclude-authors",
            "b", "c",
        ])
        #expect(command.model.layers == [3])
        #expect(command.corpus.excluded == ["b", "c"])
    }

    @Test func listsFollowOneFlag() throws {
        let command = try options([
            "--layers", "5", "10", "15", "--exclude_authors", "quarry works", "h", "--layer_types",
            "res", "att",
            "--sae_id", "res:layer_5/width_16k/average_l0_34", "mlp:layer_5/width_65k/average_l0_9",
        ])
        #expect(command.model.layers == [5, 10, 15])
        #expect(command.corpus.excluded == ["quarry works", "h"])
        #expect(command.model.layerTypes == [.res, .att])
        #expect(command.saes.ids.map(\.id.averageL0) == [34, 9])
    }

    @Test func namesMayBeginWithADash() throws {
        let command = try options(["--exclude_authors", "harbour", "-b", "--layers", "1"])
        #expect(command.corpus.excluded == ["harbour", "-b"])
        let environment = [
            "SAE_EXTRACT_EXCLUDE_AUTHORS": "-a\n-b", "SAE_EXTRACT_LAYERS": "1, 2 ,0",
        ]
        let other = try options([], environment)
        #expect(other.corpus.excluded == ["-a", "-b"])
        #expect(other.model.layers == [1, 2, 0])
        #expect(try Tool.run(["--layers", "0", "-h"]).output.contains("OVERVIEW:"))
    }

    /// Checks that an argument with invalid UTF-8 is refused. Swift would replace the bytes, and so change a path.
    @Test func argumentsMustBeUTF8() throws {
        let outcome = try Tool.run(
            Tool.tinyArguments(saveDirectory: folder.file("out")), exits: 64,
            launcher: .shell("exec \"$@\" --save_dir '\(folder.path)/'$'\\xff'"))
        #expect(outcome.errors.contains("--save_dir") && outcome.errors.contains("not valid UTF-8"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    }

    @Test func theEnvironmentFillsInAndFlagsWin() throws {
        let environment = [
            "SAE_EXTRACT_LAYERS": "5, 10,15", "SAE_EXTRACT_EXCLUDE_AUTHORS": "a,b\nquarry works",
            "SAE_EXTRACT_N_DOCS": "9", "SAE_EXTRACT_LAYER_TYPES": "mlp",
            "SAE_EXTRACT_PREFIX": "Say: ",
        ]
        let command = try options(["--n_docs", "3"], environment)
        #expect(command.model.layers == [5, 10, 15])
        #expect(command.corpus.excluded == ["a,b", "quarry works"])
        #expect(command.corpus.limit == 3)
        #expect(command.model.layerTypes == [.mlp])
        #expect(command.model.prefix == "Say: ")
        let outcome = try Tool.run(
            ["--layers", "0"], exits: 64, environment: ["SAE_EXTRACT_N_DOCS": "many"])
        #expect(outcome.errors.contains("'many'") && outcome.errors.contains("--n_docs"))
    }

    @Test func switchesInTheEnvironmentAreOnOffOrRefused() throws {
        for (word, isOn) in [("yes", true), ("On", true), ("0", false), ("no", false), ("", false)]
        {
            let command = try options(["--layers", "0"], ["SAE_EXTRACT_OVERWRITE": word])
            #expect(command.output.isOverwriting == isOn)
        }
        let outcome = try Tool.run(
            ["--layers", "0"], exits: 64, environment: ["SAE_EXTRACT_OVERWRITE": "maybe"])
        #expect(
            outcome.errors.contains(
                "SAE_EXTRACT_OVERWRITE: is 'maybe'; give 1, true or yes for on, 0, false or no for off"
            ))
    }

    /// Checks that a message about a flag names the environment variable that has set the flag.
    @Test func theVariableBehindAFlagIsNamed() throws {
        let outcome = try Tool.run(
            Tool.arguments(
                corpus: TestData.tiny + "/authormix.jsonl", layers: [0], saveDirectory: "unused")
                + ["--dry_run"],
            environment: [
                "SAE_EXTRACT_SAE_FEATURES": "3", "SAE_EXTRACT_INCLUDE_AUTHORS": "nobody",
            ])
        #expect(outcome.errors.contains("--sae_features (SAE_EXTRACT_SAE_FEATURES)"))
        let filter = try Tool.run(
            Tool.arguments(
                corpus: TestData.tiny + "/authormix.jsonl", layers: [0], saveDirectory: "unused")
                + ["--dry_run"],
            environment: ["SAE_EXTRACT_INCLUDE_AUTHORS": "nobody"])
        #expect(
            filter.errors.contains("--include_authors (SAE_EXTRACT_INCLUDE_AUTHORS): no record's"),
            "\(filter.errors)")
    }

    @Test func everyFlagIsKnownToTheNormalizer() throws {
        // The help must list exactly the flags of the normalizer's table, plus `--help`, `--version` and `--n-docs`.
        let help = try Tool.run(["--help"])
        let words = help.output.split(whereSeparator: { " ,.\n()".contains($0) })
        let flags = Set(words.filter { $0.hasPrefix("--") }.map { String($0.dropFirst(2)) })
        let known = Set(CommandLineArguments.flags.keys)
        #expect(known.subtracting(flags) == [])
        #expect(flags.subtracting(known) == ["help", "version", "n-docs"])
        let flagsPage = String(
            decoding: try TestData.bytes(TestData.packageRoot + "/docs/flags.md"), as: UTF8.self)
        for flag in known {
            #expect(flagsPage.contains("`--\(flag)"), "--\(flag) is not in docs/flags.md")
        }
    }

    // MARK: Help

    @Test func helpShowsDefaultsAndAnExample() throws {
        let help = try Tool.run(["--help"])
        #expect(help.status == 0 && help.errors.isEmpty)
        let words = help.output.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        for part in [
            "Example:", "sae-extract --layers 5 10 15", "(default: 250)",
            "(default: google/gemma-2-2b)",
            "(default: data/raw_features/AuthorMix)", "Exit codes:", "SAE_EXTRACT_N_DOCS",
        ] {
            #expect(words.contains(part), "no '\(part)'")
        }
    }

    @Test func versionIsPrinted() throws {
        let version = try Tool.run(["--version"], exits: 0)
        let lines = version.output.split(separator: "\n")
        #expect(lines.count == 3)
        #expect(lines[0].firstMatch(of: /^sae-extract 0\.1\.0( \([0-9a-f]{12}\+?\))?$/) != nil)
        // If workers use another OpenBLAS kernel set than the one that OpenBLAS chooses, the line names both sets.
        let kernels = /^OpenBLAS \d+\.\d+\.\d+ \w+(; workers take \w+)?$/
        #expect(lines[1].firstMatch(of: kernels) != nil)
        #expect(lines[2] == "CUDA: no NVIDIA driver")
        let gpu = try Tool.run(["--version"], environment: FakeCUDA.environment())
        #expect(gpu.output.contains("CUDA: libcuda 13.0, ") && gpu.output.contains("Fake GPU 0"))
    }

    @Test func layersAreRequired() throws {
        for arguments in [[], ["--model_path", TestData.tiny + "/model"], ["fetch"]] {
            let outcome = try Tool.run(arguments, exits: 64)
            #expect(outcome.errors.contains("--layers: is required"), "\(outcome.errors)")
        }
    }

    // MARK: Runs

    @Test func theManifestSaysWhatWasRun() throws {
        let arguments = Tool.alternativeArguments(saveDirectory: folder.path)
        for _ in 0..<2 { try Tool.run(arguments, exits: 0) }
        let runs = try recordedRuns("")
        #expect(runs.count == 2, "one entry an invocation")
        let run = runs[1]
        #expect(run["command"]?.array?.dropFirst().compactMap(\.string) == arguments)
        #expect(runs.map { $0["outcome"]?.string } == ["done", "done"])
        // The second invocation found all files complete and computed no tokens.
        #expect(runs.map { $0["tokens_computed"]?.integer } == [run["tokens"]?.integer, 0])
        #expect(run["kernels"]?.array?[0].string?.hasPrefix("OpenBLAS 0.3") == true)
        #expect(run["weights"]?.array?.compactMap(\.string) == ["bfloat16"])
        #expect(run["settings"]?.object?["exclude_authors"]?.array?.count == 2)
        let authors = try #require(run["authors"]?.array).compactMap(\.object)
        #expect(authors.compactMap { $0["author"]?.string } == ["orchard", "marsh-9", "lantérne"])
        for author in authors {
            let tokens = try #require(author["tokens_per_row"]?.array).compactMap(\.integer)
            #expect(tokens.count == author["source_lines"]?.array?.count)
            #expect(tokens.reduce(0, +) == author["tokens"]?.integer)
        }
        // The oracle counted these tokens in the 6 documents. The second document was cut to the maximum length.
        #expect(
            authors[0]["tokens_per_row"]?.array?.compactMap(\.integer) == [
                39, 359, 110, 64, 127, 175,
            ])
        #expect(authors[0]["truncated_rows"]?.array == [.integer(1)])
        let saes = try #require(run["saes"]?.array).compactMap(\.object)
        let names = saes.compactMap { $0["sae_name"]?.string }
        #expect(names.contains("layer_2/width_16k/average_l0_9"))
        #expect(
            saes.allSatisfy {
                ($0["mean_l0"]?.number ?? 0) > 0.1 && $0["identity"]?.string?.count == 64
            })
        let files = try #require(run["model"]?.object?["files"]?.array).compactMap(\.object)
        #expect(
            files.compactMap { $0["name"]?.string } == [
                "model.safetensors", "config.json", "tokenizer.json",
            ])
        // `source_lines` has line numbers of the corpus, counted from 1.
        let lines = try TestData.bytes(TestData.tiny + "/authormix.jsonl").split(
            separator: 0x0A, omittingEmptySubsequences: false)
        let line = try #require(authors[1]["source_lines"]?.array?[0].integer)
        #expect(String(decoding: lines[line - 1], as: UTF8.self).contains("marsh-9"))
    }

    @Test func nothingElseIsLeftBehind() throws {
        try Tool.run(Tool.alternativeArguments(saveDirectory: folder.path), exits: 0)
        let names = try directoryContents(folder.path)
        #expect(names.count == 23 && names.contains("run.json"))
        // After the run, `.sae-extract` must have the receipts, but no journals and no partial files.
        let own = try FileManager.default.subpathsOfDirectory(atPath: folder.file(".sae-extract"))
        #expect(own.count { $0.hasSuffix(".receipts") } == 1)
        #expect(!own.contains { $0.hasSuffix(".journal") || $0.hasSuffix(".partial") }, "\(own)")
    }

    @Test func aPrefixChangesTheModelsViewButNotTheShape() throws {
        func run(_ name: String, _ prefix: [String]) throws {
            try Tool.run(
                Tool.alternativeArguments(saveDirectory: folder.file(name)) + prefix, exits: 0)
        }
        try run("plain", [])
        try run("empty", ["--prefix", ""])
        try run("prefixed", ["--prefix", "The bell rang: "])
        let (plain, empty, prefixed) = (
            folder.file("plain"), folder.file("empty"), folder.file("prefixed")
        )
        for name in try directoryContents(plain) where name.hasPrefix("sae__") {
            let bytes = try TestData.bytes("\(plain)/\(name)")
            #expect(try TestData.bytes("\(empty)/\(name)") == bytes)
            let other = try TestData.bytes("\(prefixed)/\(name)")
            if name.hasSuffix(".json") {
                #expect(other == bytes)
            } else {
                #expect(other != bytes)
            }
            if name.hasSuffix(".npz") {
                let shapes = try [plain, prefixed].map {
                    try NPZReader(path: "\($0)/\(name)").tensor("activations").shape
                }
                #expect(shapes[0] == shapes[1])
            }
        }
    }

    @Test func rowsArePaddedToTheLargestAuthor() throws {
        // harbour has 15 documents, lantérne has 5. The array of lantérne must be padded with zeros to 15 documents.
        let outcome = try Tool.run(
            Tool.arguments(
                corpus: TestData.tiny + "/authormix.jsonl", layers: [1], saveDirectory: folder.path)
                + [
                    "--layer_types", "res", "--max_seq_len", "12", "--include_authors", "harbour",
                    "lantérne",
                ], exits: 0)
        #expect(outcome.errors.contains("15 of 15 documents were cut to 12 tokens"))
        let path = folder.file("sae__google_gemma-2-2b__res__activations__lantérne__layer_1.npz")
        let tensor = try NPZReader(path: path).tensor("activations")
        #expect(tensor.shape == [15, 11, 70])
        let values = tensor.floats()
        #expect(values[..<(5 * 11 * 70)].contains(1))
        #expect(!values[(5 * 11 * 70)...].contains { $0 != 0 })
    }

    @Test func hardNamesBecomeFiles() throws {
        let corpus = try folder.write(
            SyntheticCorpus.jsonl(authors: ["a/b", "..", "x__y", ""]), "c.jsonl")
        try Tool.run(
            Tool.arguments(corpus: corpus, layers: [0], saveDirectory: folder.file("out"))
                + ["--layer_types", "res"], exits: 0)
        let names = try directoryContents(folder.file("out"))
        for encoded in ["a%2Fb", "%2E.", "x%5F%5Fy", "%"] {
            #expect(names.contains("sae__google_gemma-2-2b__tokens__\(encoded).json"))
        }
        #expect(names.count == 4 * 5 + 2)
    }

    /// Checks that a run writes correct files even if its standard streams are closed, full or broken.
    @Test(arguments: ["2>&-", "0<&- >&- 2>&-", "2>/dev/full", "2>&1 | true"])
    func closedStreamsDoNotMatter(redirection: String) throws {
        let arguments = Tool.alternativeArguments(saveDirectory: folder.file("out"))
        try Tool.run(
            arguments, exits: 0, launcher: .shell("set -o pipefail; \"$@\" \(redirection)"))
        let comparison = try OutputComparison(
            reference: TestData.tiny + "/expected-alt", candidate: folder.file("out"))
        #expect(comparison.problems == [])
        // A run that fails must end with its exit code, even if it cannot print the error.
        try Tool.run(
            arguments + ["--layers", "99"], exits: 64,
            launcher: .shell("set -o pipefail; \"$@\" \(redirection)"))
    }

    @Test func theTapsAreCheckedOnceThereAreTokens() throws {
        // The first batch is an empty document. So only the second batch has activations for a check of the SAE.
        let lines = "{\"style\":\"a\",\"text\":\"\"}\n{\"style\":\"a\",\"text\":\"the tide rose\"}"
        let corpus = try folder.write(lines.utf8, "c.jsonl")
        let outcome = try Tool.run(
            Tool.arguments(corpus: corpus, layers: [0], saveDirectory: folder.file("out"))
                + ["--layer_types", "res", "--batch_size", "1", "--min_length_doc", "0"], exits: 0)
        #expect(
            outcome.errors.components(separatedBy: " explains ").count == 2, "\(outcome.errors)")
    }

    @Test func theFirstBatchChecksTheTaps() throws {
        let outcome = try Tool.run(Tool.alternativeArguments(saveDirectory: folder.path))
        #expect(
            outcome.errors.contains(
                "blocks.2.hook_resid_post: layer_2/width_16k/average_l0_9 explains"))
        #expect(outcome.errors.contains("warning: blocks.2.hook_resid_post"))
        let quiet = try Tool.run(
            Tool.alternativeArguments(saveDirectory: folder.path) + ["--log_level", "error"])
        #expect(quiet.errors == "" && quiet.output == "")
    }
}
