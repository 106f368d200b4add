// Tests of reading and selecting records.

import CZstd
import Files
import TestSupport
import Testing

@testable import Corpus

struct CorpusTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private func read(_ text: some Sequence<UInt8>, _ change: (inout Selection) -> Void = { _ in })
        throws -> [AuthorDocuments]
    {
        var selection = Selection()
        selection.minimumWords = 1
        change(&selection)
        return try Corpus.read(paths: [try folder.write(text, "corpus")], selection).authors
    }

    private func texts(_ authors: [AuthorDocuments]) -> [String: [String]] {
        Dictionary(uniqueKeysWithValues: authors.map { ($0.author, $0.documents.map(\.text)) })
    }

    @Test func severalFilesAreReadAsOne() throws {
        let files = [
            try folder.write(
                "{\"style\":\"a\",\"text\":\"1\"}\n\n{\"style\":\"b\",\"text\":\"2\"}".utf8, "1"),
            try folder.write(
                "[{\"style\":\"b\",\"text\":\"3\"},\n{\"style\":\"a\",\"text\":\"4\"}\n]\n".utf8,
                "2"),
            try folder.write("".utf8, "3"),
            try folder.write("{\"style\":\"c\",\"text\":\"5\"}\n".utf8, "4"),
        ]
        var selection = Selection()
        selection.minimumWords = 1
        let authors = try Corpus.read(paths: files, selection).authors
        #expect(texts(authors) == ["a": ["1", "4"], "b": ["2", "3"], "c": ["5"]])
        #expect(authors.map { $0.documents.map(\.line) } == [[1, 5], [3, 4], [7]])
        selection.documentLimit = 2
        #expect(try Corpus.read(paths: files + ["/nowhere"], selection).authors.count == 2)
    }

    @Test func linesEndAtNewlinesOnly() throws {
        let authors = try read(
            "\u{FEFF}{\"style\":\"a\",\"text\":\"x\u{2028}y\u{85}z\"}\r\n\n  \n{\"text\":\"2\",\"style\":\"b\"}"
                .utf8)
        #expect(texts(authors) == ["a": ["x\u{2028}y\u{85}z"], "b": ["2"]])
        #expect(authors.flatMap { $0.documents.map(\.line) } == [1, 4])
    }

    @Test func selectionIsInFileOrderAndByBytes() throws {
        let lines = [
            ("é", "1"), ("e\u{301}", "2"), ("é", "3"), ("x", "4"), ("é", "5"), ("x", "6"),
            ("y", "7"),
        ].map { "{\"style\":\"\($0)\",\"text\":\"\($1)\"}" }.joined(separator: "\n")
        let all = try read(lines.utf8)
        #expect(
            all.map { Array($0.author.utf8) } == ["é", "e\u{301}", "x", "y"].map { Array($0.utf8) })
        let capped = try read(lines.utf8) { $0.documentsPerAuthor = 2 }
        #expect(
            capped.map { $0.documents.map(\.text) } == [["1", "3"], ["2"], ["4", "6"], ["7"]])
        let limited = try read(lines.utf8) { $0.documentLimit = 3 }
        #expect(limited.map { $0.documents.map(\.text) } == [["1", "3"], ["2"]])
        let excluded = try read(lines.utf8) { $0.excludedAuthors = ["é", "y"] }
        #expect(excluded.map { $0.documents.map(\.text) } == [["2"], ["4", "6"]])
        let included = try read(lines.utf8) { $0.includedAuthors = ["e\u{301}"] }
        #expect(included.map { $0.documents.map(\.text) } == [["2"]])
    }

    @Test func readingStopsAtTheLimit() throws {
        // The damaged second line is never read.
        let authors = try read("{\"style\":\"a\",\"text\":\"x\"}\nnot json".utf8) {
            $0.documentLimit = 1
        }
        #expect(texts(authors) == ["a": ["x"]])
    }

    @Test func laterKeysWinAndOthersAreIgnored() throws {
        let authors = try read(
            #"{"style":"z","n":NaN,"i":[-Infinity,{"\ud800":"\udfff"}],"text":"1","style":"a","text":"2"}"#
                .utf8)
        #expect(texts(authors) == ["a": ["2"]])
    }

    @Test func fieldsCanBeNamed() throws {
        let authors = try read(#"{"who":"a","what":"b","style":1}"#.utf8) {
            $0.authorField = "who"
            $0.textField = "what"
        }
        #expect(texts(authors) == ["a": ["b"]])
    }

    /// An element of an array is reported as JSON of the wrong form, not as CSV or another kind of text.
    @Test(arguments: [
        (#"["a","b"]"#, "a string"), ("[1,2]", "a number"), (#"["a\tb","c"]"#, "a string"),
        ("[section]\nkey=1", "not a JSON object"),
    ])
    func elementsOfArraysAreNamed(text: String, mention: String) throws {
        let error = #expect(throws: CorpusError.self) { try read(text.utf8) }
        let said = "\(String(describing: error))"
        #expect(said.contains(mention) && !said.contains("CSV"), "\(said)")
    }

    @Test func arraysAreReadLikeLines() throws {
        let whole = try TestData.bytes(TestData.tiny + "/authormix.jsonl")
        let lines = whole.split(separator: 0x0A)
        let array =
            Array("[\n".utf8) + Array(lines.joined(separator: Array(" ,\n\n".utf8)))
            + Array("\n]\n".utf8)
        let expected = try read(whole)
        #expect(texts(try read(array)) == texts(expected))
        #expect(expected.map(\.documents.count).reduce(0, +) == 58)
        #expect(throws: CorpusError.self) { try read("[]".utf8) }
    }

    @Test func compressionIsToldByContent() throws {
        let whole = try TestData.bytes(TestData.tiny + "/authormix.jsonl")
        let expected = texts(try read(whole))
        var gzip: [UInt8] = []
        // Two members, as `cat a.gz b.gz` writes.
        let cut = whole.firstIndex(of: 0x0A)! + 1
        for part in [whole[..<cut], whole[cut...]] {
            try part.withUnsafeBytes {
                try Deflater(.gzip, level: 6).write($0, finish: true) { gzip += $0 }
            }
        }
        #expect(texts(try read(gzip)) == expected)
        var zstd: [UInt8] = []
        for part in [whole[..<cut], whole[cut...]] {
            var frame = [UInt8](repeating: 0, count: ZSTD_compressBound(part.count))
            let count = frame.count
            let size = part.withUnsafeBytes {
                ZSTD_compress(&frame, count, $0.baseAddress, $0.count, 3)
            }
            zstd += frame[..<size]
        }
        #expect(texts(try read(zstd)) == expected)
        // A skippable zstd frame before the data is ignored. Zeros after the end of a gzip stream are ignored too.
        #expect(texts(try read([0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3] + zstd)) == expected)
        #expect(texts(try read(gzip + Array(repeating: 0, count: 700_000))) == expected)
        #expect(throws: CorpusError.self) { try read(gzip + [0, 0, 1]) }
    }

    /// Checks that a zstd file from the Hub is refused if its window is larger than 128 MiB. A local file may have a
    /// larger window.
    @Test func windowsOfForeignFilesAreLimited() throws {
        let record = Array("{\"style\":\"a\",\"text\":\"x\"}\n".utf8)
        var selection = Selection()
        selection.minimumWords = 1
        for log in [27, 28, 31] {
            // A zstd frame (RFC 8878): the magic number, a frame header descriptor without flags, the window
            // descriptor, and one raw block that is marked as the last.
            let head = UInt32(record.count << 3 | 1)
            let frame: [UInt8] =
                [0x28, 0xB5, 0x2F, 0xFD, 0, UInt8((log - 10) << 3)]
                + (0..<3).map { UInt8(truncatingIfNeeded: head >> (8 * $0)) } + record
            let path = try folder.write(frame, "window")
            #expect(try texts(Corpus.read(paths: [path], selection).authors) == ["a": ["x"]])
            guard log > 27 else {
                #expect(
                    try Corpus.read(paths: [path], selection, window: .usual).authors.count == 1)
                continue
            }
            let error = #expect(throws: CorpusError.self) {
                try Corpus.read(paths: [path], selection, window: .usual)
            }
            #expect(error?.description.contains("a window of more than 128 MiB") == true)
            #expect(error?.description.contains("--data_path") == true)
        }
    }

    @Test func recordsLongerThanTheBufferAreWhole() throws {
        let long = String(repeating: "long words ", count: 100_000)
        for text in [
            "{\"style\":\"a\",\"text\":\"\(long)\"}\n{\"style\":\"a\",\"text\":\"b\"}",
            "[{\"style\":\"a\",\"text\":\"\(long)\"},{\"style\":\"a\",\"text\":\"b\"}]",
        ] {
            let authors = try read(text.utf8)
            #expect(authors.map { $0.documents.map(\.text) } == [[long, "b"]])
        }
    }

    @Test(arguments: [
        ("", 0), (" \t\n", 0), ("a", 1), (" a  b ", 2), ("a\u{A0}b\u{2003}c\u{3000}d", 4),
        ("a\u{1C}b\u{1D}c\u{1E}d\u{1F}e", 5), ("a\u{85}b\u{2028}c\u{2029}d\u{1680}e", 5),
        ("a\u{200B}b\u{FEFF}c\u{2060}d\u{180E}e", 1), ("a\r\nb\u{B}c\u{C}d", 4),
        ("a\u{202F}b\u{205F}c", 3),
    ])
    func wordsArePythons(text: String, count: Int) {
        #expect(wordCount(text) == count)
    }

    @Test func invalidUTF8IsFoundWhereItIs() {
        func first(_ bytes: [UInt8]) -> Int? {
            bytes.withUnsafeBufferPointer { firstInvalidUTF8($0) }
        }
        #expect(first(Array("plain text, é and 😀".utf8)) == nil)
        #expect(first(Array("12345678".utf8) + [0xC3]) == 8)
        #expect(first(Array("1234567890".utf8) + [0xED, 0xA0, 0x80]) == 10)
        #expect(first([0xC0, 0x80]) == 0)
        #expect(first(Array("abc".utf8) + [0xF5]) == 3)
    }
}

struct ChatTemplateTests {
    @Test(arguments: [
        ("<bos>a", true), ("<start_of_turn>user\nhi", true), (" \n\u{A0}<bos>", true),
        ("\u{FEFF}<bos>", true), ("<end_of_turn>", true), ("<eos>", true), ("<bos", false),
        ("a <bos>", false), ("< bos>", false), ("", false), ("<b>bold</b>", false),
    ])
    func markersAreSeenAtTheFront(text: String, isTemplated: Bool) {
        #expect(ChatTemplate.begins(text) == isTemplated)
    }
}
