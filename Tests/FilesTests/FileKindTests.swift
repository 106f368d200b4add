// Tests of the recognition of file kinds by the first bytes of a file.

import ArrayFiles
import Foundation
import TestSupport
import Testing

@testable import Files

struct FileKindTests {
    /// The first bytes of a file, and the words that the message about the file must contain.
    struct Sample: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let bytes: [UInt8]
        /// Words that the message must contain in two cases: if a corpus is expected, and if weights are expected.
        let mentions: [String]

        init(_ name: String, _ bytes: [UInt8], _ mentions: String...) {
            (testDescription, self.bytes, self.mentions) = (name, bytes, mentions)
        }

        init(_ name: String, _ text: String, _ mentions: String...) {
            (testDescription, bytes, self.mentions) = (name, Array(text.utf8), mentions)
        }
    }

    /// Returns the header of a tar archive with one empty file. If `isOld`, the format is from before POSIX.
    private static func tar(isOld: Bool) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, at offset: Int) {
            header.replaceSubrange(offset..<offset + text.utf8.count, with: text.utf8)
        }
        put("records.jsonl", at: 0)
        put("0000644\0", at: 100)
        put("00000000000\0", at: 124)
        put("        ", at: 148)
        if !isOld { put("ustar\u{0}00", at: 257) }
        let sum = String(header.reduce(0) { $0 + Int($1) }, radix: 8)
        put(String(repeating: "0", count: 6 - sum.count) + sum + "\0 ", at: 148)
        return header
    }

    private static func zip(_ member: String) -> [UInt8] {
        var zip = ZipBuilder()
        zip.add(member, Array("x".utf8), crc: 0)
        return zip.bytes
    }

    private static func utf16(_ text: String, bigEndian: Bool, marked: Bool) -> [UInt8] {
        let units = (marked ? [0xFEFF] : []) + Array(text.utf16)
        return units.flatMap { unit in
            withUnsafeBytes(of: bigEndian ? unit.bigEndian : unit.littleEndian, Array.init)
        }
    }

    private static func utf32(_ text: String, bigEndian: Bool) -> [UInt8] {
        text.unicodeScalars.flatMap { scalar in
            withUnsafeBytes(
                of: bigEndian ? scalar.value.bigEndian : scalar.value.littleEndian, Array.init)
        }
    }

    private static let record = "{\"作者\":\"a\",\"text\":\"漢字\"}\r\n"
    private static let noise: [UInt8] = [0, 1, 2, 3, 250, 251, 0, 1, 7, 8]

    static let samples: [Sample] = [
        Sample("NULs", [UInt8](repeating: 0, count: 600), "NUL bytes", "crash"),
        Sample(
            "Git LFS",
            "version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 5228717512\n",
            "is a Git LFS pointer", "5228717512 bytes", "git lfs pull"),
        Sample(
            "git-annex", "/annex/objects/SHA256E-s100--00ff.safetensors\n", "git-annex pointer",
            "git annex get"),
        Sample(
            "a page", "\n<!DOCTYPE html>\n<html><head>\n<title>\n Sign in </title>", "web page",
            "'Sign in'", "download"),
        Sample("a page without a title", "<html lang=en><body>", "web page", "download"),
        Sample("a page behind a mark", "\u{FEFF}<!doctype HTML>", "web page"),
        Sample(
            "a storage server's answer",
            "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            "server's answer", "AccessDenied: Request has expired", "download"),
        Sample("XML", "<?xml version=\"1.0\"?>\n<corpus><doc/></corpus>", "XML (<corpus>)"),
        Sample(
            "the Hub's refusal",
            "Access to model google/gemma-2-2b is restricted and you are not in the authorized list.",
            "server's answer", "'Access to model google/gemma-2-2b is restricted", "token"),
        Sample(
            "an answer in JSON", "{\"error\": \"Repository not found\"}", "Repository not found"),
        Sample("a status", "404: Not Found", "server's answer", "404"),
        Sample("xz", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0] + noise, "compressed with xz", "xz -d"),
        Sample("bzip2", Array("BZh91AY&SY".utf8) + noise, "compressed with bzip2", "bzip2 -d"),
        Sample("lz4", [0x04, 0x22, 0x4D, 0x18] + noise, "compressed with lz4", "lz4 -d"),
        Sample("zlib", [0x78, 0x9C] + noise, "compressed with zlib"),
        Sample("tar", tar(isOld: false), "is a tar archive", "tar -xf"),
        Sample("old tar", tar(isOld: true), "is a tar archive", "tar -xf"),
        Sample("7z", [0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C] + noise, "7z archive", "7z x"),
        Sample("zip", zip("train.json"), "is a zip archive", "unzip"),
        Sample("a spreadsheet", zip("[Content_Types].xml"), "spreadsheet"),
        Sample("PyTorch", zip("archive/data.pkl"), "PyTorch"),
        Sample(
            "old PyTorch",
            [0x80, 2, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19],
            "PyTorch"),
        Sample("a pickle", [0x80, 4, 0x95, 10, 0, 0, 0, 0, 0, 0, 0, 0x7D, 0x94], "pickle"),
        Sample("an old pickle", "(dp0\nS'a'\n", "pickle"),
        Sample("GGUF", Array("GGUF".utf8) + noise, "GGUF", "safetensors"),
        Sample("HDF5", [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A], "HDF5"),
        Sample("PDF", "%PDF-1.7\n", "is PDF"),
        Sample("SQLite", "SQLite format 3\0", "SQLite"),
        Sample("parquet", Array("PAR1".utf8) + noise, "is parquet"),
        Sample(
            "TFRecord", [5, 0, 0, 0, 0, 0, 0, 0, 0xEA, 0xB2, 0x04, 0x3E] + noise, "is TFRecord"),
        Sample(
            "BSON",
            [20, 0, 0, 0, 2] + Array("text\0".utf8) + [5, 0, 0, 0] + Array("calm\0\0".utf8),
            "is BSON"),
        Sample(
            "MessagePack", [0x82, 0xA5] + Array("style".utf8) + [0xA1, 0x61], "is MessagePack"),
        Sample("Arrow", "ARROW1\0\0", "Arrow"),
        Sample("old Feather", Array("FEA1".utf8) + noise, "Arrow"),
        Sample(
            "UTF-16LE with a mark", utf16(record, bigEndian: false, marked: true), "UTF-16,",
            "iconv -f UTF-16 -t"),
        Sample(
            "UTF-16BE with a mark", utf16(record, bigEndian: true, marked: true), "UTF-16,",
            "iconv -f UTF-16 -t"),
        Sample(
            "UTF-16LE", utf16(record, bigEndian: false, marked: false), "iconv -f UTF-16LE -t UTF-8"
        ),
        Sample(
            "UTF-16BE", utf16(record, bigEndian: true, marked: false), "iconv -f UTF-16BE -t UTF-8"),
        Sample(
            "UTF-16LE, no JSON", utf16("style,text", bigEndian: false, marked: false), "UTF-16LE"),
        Sample("UTF-32LE", utf32(record, bigEndian: false), "UTF-32LE"),
        Sample("UTF-32BE", utf32("\u{FEFF}" + record, bigEndian: true), "UTF-32"),
        Sample(
            "a tokenizer's model",
            [0x0A, 14, 0x0A, 5] + Array("<pad>".utf8) + [0x15, 0, 0, 0, 0, 0x18, 3], "SentencePiece"
        ),
        Sample(
            "plain text", "It was a calm day.\nThe tide was out.\n", "is text",
            "'It was a calm day.'"),
    ]

    private func kind(_ bytes: [UInt8]) -> FileKind? { bytes.withUnsafeBytes { FileKind($0) } }

    @Test(arguments: samples)
    func kindsAreTold(sample: Sample) throws {
        let told = try #require(kind(sample.bytes))
        for expected in [ExpectedFile.records, .safetensors] {
            let sentence = try #require(told.sentence(insteadOf: expected))
            for mention in sample.mentions {
                #expect(sentence.contains(mention), "\(sentence)")
            }
            // Every message must contain the next step, after a semicolon.
            #expect(sentence.contains("; "), "\(sentence)")
        }
    }

    @Test func tablesAreToldFromProse() {
        #expect(kind(Array("style,text\na,\"one, two\"\n".utf8))?.name.contains("CSV") == true)
        #expect(kind(Array("style\ttext\na\tone\n".utf8))?.name.contains("TSV") == true)
        #expect(kind(Array("style;text\na;one\n".utf8))?.name.contains("CSV") == true)
        #expect(kind(Array("Well, it was calm.\nSo, we waited.\n".utf8))?.name == "text")
        #expect(kind(Array("ORCHARDS are green\n".utf8))?.name == "text")
    }

    @Test func whatIsExpectedIsNoSurprise() {
        #expect(kind([])?.sentence(insteadOf: .records) == nil)
        #expect(kind([])?.sentence(insteadOf: .json)?.contains("is empty") == true)
        #expect(kind(Array(" {\"a\":1}".utf8))?.sentence(insteadOf: .records) == nil)
        for text in ["[1]", "null\n", " -1.5e3", "true"] {
            #expect(kind(Array(text.utf8))?.sentence(insteadOf: .json) == nil)
        }
        #expect(kind(FileKindTests.zip("W_enc.npy"))?.sentence(insteadOf: .npz) == nil)
        #expect(
            kind(FileKindTests.zip("W_enc.npy"))?.sentence(insteadOf: .npy)?.contains(".npz")
                == true)
        var safetensors = SafetensorsBuilder()
        safetensors.add("x", [1], [1])
        #expect(kind(safetensors.bytes())?.sentence(insteadOf: .safetensors) == nil)
        #expect(
            kind(safetensors.bytes())?.sentence(insteadOf: .npz)?.contains("is safetensors") == true
        )
        #expect(kind(NPYHeader(descr: "<f4", shape: [1]).encoded) == .npy)
        #expect(kind([0xFE, 0x01, 0x02]) == nil)
    }

    /// Checks that the recognition does not crash on truncated or changed bytes of any sample.
    @Test func shortAndDamagedBytesAreNoTrouble() {
        var generator = SeededGenerator(15)
        for sample in FileKindTests.samples {
            for count in [1, 2, 3, 4, 5, 8, 9, 12, 29, 30, 31, 511]
            where count <= sample.bytes.count {
                _ = kind(Array(sample.bytes[..<count]))?.sentence(insteadOf: .npz)
            }
            for _ in 0..<20 {
                var bytes = sample.bytes
                bytes[Int.random(in: bytes.indices, using: &generator)] = UInt8.random(
                    in: 0...255, using: &generator)
                _ = kind(bytes)?.sentence(insteadOf: .json)
            }
        }
    }

    @Test func readersSayWhatTheyGot() throws {
        let folder = try TemporaryFolder()
        let pointer = Array(
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n".utf8)
        let path = try folder.write(pointer, "file")
        for read in [
            { _ = try SafetensorsFile(path: path) }, { _ = try NPZReader(path: path) },
            { _ = try ArrayScan(npy: path) },
        ] {
            let error = #expect(throws: UnexpectedFileError.self) { try read() }
            #expect(error?.description.contains("\(path): is a Git LFS pointer") == true)
        }
        // A PyTorch archive is a valid ZIP file, but it has no arrays.
        let torch = try folder.write(FileKindTests.zip("archive/data.pkl"), "torch")
        #expect(throws: UnexpectedFileError.self) { try NPZReader(path: torch).tensor("W_enc") }
        #expect(FileKind(path: torch) == .torch && FileKind(path: folder.path) == nil)
    }

    @Test func linksThatLeadNowhereAreNamed() throws {
        let folder = try TemporaryFolder()
        let link = folder.file("config.json")
        try FileManager.default.createSymbolicLink(
            atPath: link, withDestinationPath: "../../blobs/0123")
        #expect(!fileExists(link) && isListed(link))
        #expect(danglingLinkTarget(link) == "../../blobs/0123")
        let error = #expect(throws: FileError.self) { try MappedFile(path: link) }
        #expect(error?.description.contains("is a link to ../../blobs/0123") == true)
        #expect(error?.description.contains("cp -rL") == true)
        #expect(danglingLinkTarget(folder.path) == nil && danglingLinkTarget("/nowhere") == nil)
    }

    @Test func homeFoldersAreExpanded() throws {
        let home = try #require(ProcessInfo.processInfo.environment["HOME"])
        #expect(try expandingHome("~/a b") == home + "/a b" && expandingHome("~") == home)
        #expect(try expandingHome("a/~") == "a/~" && expandingHome("./~/x") == "./~/x")
        #expect(try expandingHome("~root/x").hasSuffix("/x"))
        #expect(try !expandingHome("~root/x").contains("~"))
        let error = #expect(throws: UnknownHomeError.self) {
            try expandingHome("~nobody-of-this-name/x")
        }
        #expect(error?.description.contains("nobody-of-this-name") == true)
    }

    /// Checks that a file counts as a server's error message only as a whole. Some texts only begin like one.
    @Test func answersAreTheWholeFile() {
        func isAnswer(_ text: String) -> Bool {
            let kind = Array(text.utf8).withUnsafeBytes { FileKind($0) }
            if case .refusal = kind { return true }
            return false
        }
        for text in [
            #"{"error":"Repository not found"}"#, #"{"error": "x", "message": "y"}"#,
            "404: Not Found", "Not Found\n", "Entry not found",
            "Access to model google/gemma-2-2b is restricted. You must be authenticated.",
        ] { #expect(isAnswer(text), "\(text)") }
        for text in [
            #"{"error":"low quality scan","style":"a","text":"tide"}"#, #"{"error": ""}"#,
            "Not found in the sea, the tide rose.", "404 birds came", "Forbidden fruit",
        ] { #expect(!isAnswer(text), "\(text)") }
    }
}
