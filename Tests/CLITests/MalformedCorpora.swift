// Test cases with damaged corpora.

import Files
import Foundation
import TestSupport

extension MalformedInputTests {
    static let good =
        "{\"style\": \"a\", \"text\": \"\(Array(repeating: "word", count: 40).joined(separator: " "))\"}"

    static let corpora: [MalformedInput] = [
        MalformedInput(
            "a line that is not JSON", exits: 65,
            mentioning: ["line 2", "not a JSON record", "correct or remove"]
        ) {
            try $0.useCorpus(lines: [good, "{\"style\": \"a\", ", good])
        },
        MalformedInput(
            "two records on a line", exits: 65,
            mentioning: ["line 1", "not a JSON record", "several records", "jq -c ."]
        ) {
            try $0.useCorpus(lines: [good + good])
        },
        MalformedInput(
            "a record without an author", exits: 65,
            mentioning: ["line 3", "has no \"style\"", "correct or remove"]
        ) {
            try $0.useCorpus(lines: [good, "", "{\"text\": \"x\"}"])
        },
        MalformedInput(
            "a text that is not a string", exits: 65,
            mentioning: ["line 1", "\"text\" is a list: give a string", "correct or remove"]
        ) {
            try $0.useCorpus(lines: ["{\"style\": \"a\", \"text\": [\"x\"]}"])
        },
        MalformedInput(
            "a record that is not an object", exits: 65,
            mentioning: ["line 2", "not a JSON object, but a number (17)", "correct or remove"]
        ) {
            try $0.useCorpus(lines: [good, "17"])
        },
        MalformedInput(
            "invalid UTF-8", exits: 65,
            mentioning: ["line 2", "not valid UTF-8", "at offset 24", "correct or remove"]
        ) {
            try $0.useCorpus(
                Array((good + "\n{\"style\": \"a\", \"text\": \"").utf8) + [0xFF, 0xFE]
                    + Array("\"}".utf8))
        },
        MalformedInput(
            "a lone surrogate", exits: 65,
            mentioning: ["line 1", "\"text\" has a lone surrogate", "correct or remove"]
        ) {
            try $0.useCorpus(lines: ["{\"style\": \"a\", \"text\": \"x \\ud83d y\"}"])
        },
        MalformedInput(
            "a raw control character", exits: 65,
            mentioning: ["line 1", "control character 0x01", "correct or remove"]
        ) {
            try $0.useCorpus(lines: ["{\"style\": \"a\", \"text\": \"x \u{1} y\"}"])
        },
        MalformedInput(
            "a record nested a million deep", exits: 65,
            mentioning: ["line 1", "deeper than 256", "correct or remove"]
        ) {
            try $0.useCorpus(lines: [
                "{\"style\": \"a\", \"x\": " + String(repeating: "[", count: 1_000_000)
            ])
        },
        MalformedInput(
            "an empty corpus", exits: 65, mentioning: ["corpus.jsonl", "no records", "--data_path"]
        ) {
            try $0.useCorpus([])
        },
        MalformedInput(
            "a corpus of blank lines", exits: 65,
            mentioning: ["corpus.jsonl", "no records", "--data_path"]
        ) {
            try $0.useCorpus("\n\n  \n".utf8)
        },
        MalformedInput(
            "an array that does not end", exits: 65,
            mentioning: ["line 2", "array does not end", "export the file again"]
        ) {
            try $0.useCorpus(("[\n" + good + ",").utf8)
        },
        MalformedInput(
            "an array with a missing comma", exits: 65,
            mentioning: ["line 2", "lacks a comma", "export the file again"]
        ) {
            try $0.useCorpus(
                ("[" + good.replacingOccurrences(of: "word word", with: "x") + "\n" + good + "]")
                    .utf8)
        },
        MalformedInput(
            "an array with text after it", exits: 65,
            mentioning: ["line 1", "followed by other text", "export the file again"]
        ) {
            try $0.useCorpus(("[{\"style\": \"a\", \"text\": \"x\"}] 1").utf8)
        },
        MalformedInput(
            "a gzip file cut short", exits: 65,
            mentioning: ["corpus.gz", "gzip stream is cut short", "again"]
        ) {
            let whole = try compressed(TestData.bytes(TestData.tiny + "/authormix.jsonl"))
            try $0.useCorpus(whole.dropLast(9), "corpus.gz")
            $0.extra = ["--n_docs", "1000"]
        },
        MalformedInput(
            "a damaged gzip file", exits: 65,
            mentioning: ["corpus.gz", "gzip stream is damaged", "again"]
        ) {
            var whole = try compressed(TestData.bytes(TestData.tiny + "/authormix.jsonl"))
            whole[whole.count / 2] ^= 0xFF
            try $0.useCorpus(whole, "corpus.gz")
            $0.extra = ["--n_docs", "1000"]
        },
        MalformedInput(
            "a damaged zstd file", exits: 65,
            mentioning: ["corpus.zst", "zstd stream is damaged", "again"]
        ) {
            try $0.useCorpus(
                [0x28, 0xB5, 0x2F, 0xFD] + Array(repeating: 0xAB, count: 100), "corpus.zst")
        },
        MalformedInput(
            "a zstd file cut short", exits: 65,
            mentioning: ["corpus.zst", "zstd stream is cut short", "again"]
        ) {
            // These bytes are the header of a zstd frame. No block follows.
            try $0.useCorpus([0x28, 0xB5, 0x2F, 0xFD, 0x04, 0x58], "corpus.zst")
        },
        MalformedInput(
            "no author left", exits: 65,
            mentioning: ["no author is left", "60 records", "--min_length_doc"]
        ) {
            $0.extra = ["--min_length_doc", "100000"]
        },
        MalformedInput(
            "only authors that are not there", exits: 65,
            mentioning: [
                "no author is left", "60 are of authors not selected", "--include_authors",
            ]
        ) {
            $0.extra = ["--include_authors", "nobody"]
        },
    ]
}

/// Returns `bytes` compressed as a gzip file.
func compressed(_ bytes: [UInt8]) throws -> [UInt8] {
    var out: [UInt8] = []
    try bytes.withUnsafeBytes { input in
        try Deflater(.gzip, level: 6).write(input, finish: true) { out += $0 }
    }
    return out
}
