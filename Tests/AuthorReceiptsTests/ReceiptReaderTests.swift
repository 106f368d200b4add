// Tests of receipts on disk. Each receipt must be read once. Damaged receipts and receipts of another SAE must not
// count.

import ByteJSON
import Files
import Foundation
import Hooks
import RunFiles
import TestSupport
import Testing

@testable import AuthorReceipts

struct ReceiptReaderTests {
    private static let hook = HookPoint(layer: 1, site: .res)
    private static let saes = [hook.description: "an SAE"]
    private static let naming = OutputNaming(label: "model")
    private static let columns = 5
    /// The authors of the run. The author at index i has i + 1 documents.
    private static let authors = ["a", "b_c", "", "é"]

    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private static func receipt(_ number: Int) -> AuthorReceipt {
        let author = authors[number]
        let names = OutputItem.items(of: [hook], in: .both).map {
            $0.name(naming, author: author)
        }
        return AuthorReceipt(
            author: author, number: number, lines: Array(0...number),
            tokens: (0...number).map { _ in 3 }, truncatedRows: [], dividedBatches: [],
            crossEntropySum: 1, entropySum: 1, firingCounts: [:], saes: saes, kernels: "k",
            files: Dictionary(
                uniqueKeysWithValues: names.map { ($0, FileSeal(size: 5, crc32: 7)) }))
    }

    private static func lines(_ numbers: Range<Int>) throws -> [UInt8] {
        try numbers.flatMap { try receipt($0).line() }
    }

    private static let expected = ExpectedAuthors(
        authors: Dictionary(
            uniqueKeysWithValues: authors.enumerated().map {
                (ExactString($1), (number: $0, documents: $0 + 1))
            }), columns: columns, areAll: true)

    private func new(_ reader: ReceiptReader) throws -> [Int] {
        let folder = try #require(try GuardedPath(folder.path).folder())
        return try reader.new(in: folder, ReceiptReaderTests.expected.canHave).map(\.number)
    }

    @Test func aGrowingFileIsReadOn() throws {
        let reader = ReceiptReader()
        #expect(try new(reader) == [])
        let bytes = try ReceiptReaderTests.lines(0..<3)
        let first = try ReceiptReaderTests.lines(0..<1).count
        // A line without a line break may still be incomplete, so it is not read yet.
        for (count, found) in [(first - 1, []), (first + 5, [0]), (bytes.count, [1, 2])] {
            try folder.write(bytes.prefix(count), "x.receipts")
            #expect(try new(reader) == found)
        }
        reader.reset()
        #expect(try new(reader) == [0, 1, 2])
        reader.reset()
        reader.skip("x.receipts", to: first)
        #expect(try new(reader) == [1, 2])
        #expect(reader.damage == [])
    }

    /// Checks that a wrong byte in a receipts file costs one receipt, or two if the byte is a line break. Spaces are
    /// left out, because the reader does not check the space after the checksum.
    @Test func damagedLinesAttestNothing() throws {
        let bytes = try ReceiptReaderTests.lines(0..<3)
        var kept: Set<[Int]> = []
        for position in bytes.indices where bytes[position] != UInt8(ascii: " ") {
            var damaged = bytes
            damaged[position] ^= 0x10
            try folder.write(damaged, "x.receipts")
            let found = try new(ReceiptReader())
            #expect(found.count < 3, "byte \(position) is not protected")
            kept.insert(found)
        }
        #expect(kept.isSuperset(of: [[0, 1], [0, 2], [1, 2]]))
        #expect(kept.allSatisfy { $0.count >= 1 })
    }

    /// Checks that receipts with valid checksums count as damaged if they cannot belong to these authors.
    @Test func impossibleReceiptsAttestNothing() throws {
        func attempt(
            _ change: (inout AuthorReceipt) -> Void
        ) throws -> (found: [Int], damage: Int) {
            var wrong = ReceiptReaderTests.receipt(1)
            change(&wrong)
            try folder.write(try wrong.line(), "x.receipts")
            let reader = ReceiptReader()
            return (try new(reader), reader.damage.count)
        }
        #expect(try attempt { _ in } == ([1], 0))
        let changes: [(inout AuthorReceipt) -> Void] = [
            { $0.author = "nobody" }, { $0.number = 0 }, { $0.number = -1 }, { $0.number = .max },
            { $0.tokens[0] = -1 }, { $0.tokens[0] = ReceiptReaderTests.columns + 1 },
            { $0.tokens[0] = .max }, { $0.tokens.append(3) },
            { ($0.tokens, $0.lines) = ([], []) }, { $0.truncatedRows = [1 << 40] },
            { $0.dividedBatches = [-1] },
            { $0.firingCounts = ["blocks.1.hook_resid_post": .max] },
            { $0.firingCounts = ["blocks.1.hook_resid_post": -1] },
            { $0.crossEntropySum = -1 }, { $0.files["x"] = FileSeal(size: -1, crc32: 0) },
        ]
        for change in changes { #expect(try attempt(change) == ([], 1)) }
    }

    /// Checks that receipts in separate files are read. Earlier versions wrote one file for each receipt.
    @Test func receiptsInFilesOfTheirOwnAreRead() throws {
        try folder.write(
            try ReceiptReaderTests.lines(0..<1).dropLast().dropFirst(9),
            "0123456789abcdef.receipt")
        let reader = ReceiptReader()
        #expect(try new(reader) == [0])
        #expect(try new(reader) == [])
    }

    /// Checks that a file counts only if its features come from the SAE in use. Files without features always count.
    @Test func filesOfAnotherSAEAreKnownAsSuch() throws {
        let (receipt, naming) = (ReceiptReaderTests.receipt(0), ReceiptReaderTests.naming)
        let names = naming.activations(ReceiptReaderTests.hook, author: receipt.author)
        let tokens = naming.file(.tokens, author: receipt.author)
        let receipts = Receipts()
        receipts.add(receipt, saes: [ReceiptReaderTests.hook.description: "another"], naming)
        #expect(receipts.foreign.map(\.names) == [names])
        #expect(!names.contains(where: receipts.knows) && receipts.knows(tokens))
        receipts.add(receipt, saes: ReceiptReaderTests.saes, naming)
        #expect(names.allSatisfy(receipts.knows))
    }
}
