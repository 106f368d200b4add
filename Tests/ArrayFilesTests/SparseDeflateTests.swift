// Tests of DEFLATE streams that are written from the nonzero elements alone. They must decode to the whole array.

import Files
import Foundation
import TestSupport
import Testing

@testable import ArrayFiles

struct SparseDeflateTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// An array of `count` words of 32 bits. All words are zero except `words`, which has bit patterns by index.
    struct Pattern: CustomTestStringConvertible {
        let name: String
        let count: Int
        let words: [Int: UInt32]

        var testDescription: String { name }

        static let one = Float(1).bitPattern

        static func ones(_ name: String, _ count: Int, at places: some Sequence<Int>) -> Pattern {
            Pattern(
                name: name, count: count,
                words: Dictionary(uniqueKeysWithValues: places.map { ($0, one) }))
        }
    }

    static let patterns: [Pattern] = {
        var all: [Pattern] = [
            .ones("nothing", 1000, at: []), .ones("no numbers", 0, at: []),
            .ones("one number, zero", 1, at: []), .ones("one number, one", 1, at: [0]),
            .ones("full", 5003, at: 0..<5003), .ones("first", 70_001, at: [0]),
            .ones("last", 70_001, at: [70_000]), .ones("both ends", 1009, at: [0, 1008]),
            .ones("alternating", 4001, at: stride(from: 0, to: 4001, by: 2)),
            .ones("alternating otherwise", 4001, at: stride(from: 1, to: 4001, by: 2)),
            .ones("rows of an SAE", 359 * 1024, at: (0..<92 * 50).map { $0 * 20 + $0 % 7 }),
            .ones("pairs", 9999, at: (0..<90).flatMap { [$0 * 110, $0 * 110 + 1] }),
        ]
        // Runs of zero bytes of every length near multiples of 258, which is the longest match of DEFLATE. Some words
        // begin or end with zero bytes, so the runs have lengths that are no multiples of 4.
        var words: [Int: UInt32] = [:]
        var place = 0
        for first: UInt32 in [0x1234_5678, 0x0034_5678, 0x0000_5678, 0x0000_0078] {
            for second: UInt32 in [0x1234_5678, 0x1234_5600, 0x1234_0000, 0x1200_0000] {
                for gap in Array(0...3) + Array(62...67) + Array(127...131) + Array(192...196) {
                    words[place] = first
                    words[place + gap + 1] = second
                    place += gap + 2
                }
            }
        }
        all.append(Pattern(name: "runs of every length", count: place + 5, words: words))
        for (seed, density) in [(1, 0.0003), (2, 0.003), (3, 0.03), (4, 0.3), (5, 0.9)] {
            var random = SeededGenerator(UInt64(seed))
            let count = 20_000 + Int.random(in: 0...999, using: &random)
            var words: [Int: UInt32] = [:]
            for place in 0..<count where Double.random(in: 0..<1, using: &random) < density {
                // Half of the bytes become zero. A word whose four bytes are zero is also passed as an element.
                let mask = (0..<4).reduce(UInt32(0)) { mask, _ in
                    mask << 8 | (Bool.random(using: &random) ? 255 : 0)
                }
                words[place] = UInt32.random(in: .min ... .max, using: &random) & mask
            }
            all.append(Pattern(name: "random, \(density)", count: count, words: words))
        }
        return all
    }()

    private func write(_ pattern: Pattern, shape: [Int]) throws -> String {
        let path = folder.file("a.npz")
        let places = pattern.words.keys.sorted()
        try OutputFile.make(path: path, temporaryDirectory: folder.path) { file in
            let archive = NPZWriter(file, level: 1)
            try archive.addSparse("x", NPYHeader(descr: "<f4", shape: shape)) { element in
                for place in places {
                    try element(place, Float(bitPattern: pattern.words[place]!))
                }
            }
            try [UInt8(7)].withUnsafeBytes {
                try archive.add("y", NPYHeader(descr: "|u1", shape: [1]), $0)
            }
            try archive.finish()
        }
        return path
    }

    @Test(arguments: patterns)
    func everyPatternComesBack(pattern: Pattern) throws {
        let path = try write(pattern, shape: [pattern.count])
        var expected = [UInt32](repeating: 0, count: pattern.count)
        for (place, word) in pattern.words { expected[place] = word }
        let reader = try NPZReader(path: path)
        let array = try reader.array("x")
        let found = array.data.withUnsafeBytes { bytes in
            (0..<pattern.count).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self) }
        }
        #expect(array.data.count == 4 * pattern.count)
        #expect(found == expected)
        // The member after the array must be in its place too.
        #expect(try reader.array("y").data == [7])
    }

    /// Checks that the checksum equals zlib's, for gaps of any length.
    @Test func checksumsAreZlibs() {
        var random = SeededGenerator(7)
        for most in [1, 3, 20, 400, 100_000, 3_000_000] {
            var bytes: [UInt8] = Array("head\n".utf8)
            var checksum = SparseCRC32(from: bytes.withUnsafeBytes { crc32($0) })
            for _ in 0..<min(1000, 6_000_000 / most) {
                let gap = Int.random(in: 0...most, using: &random)
                let word = UInt32.random(in: .min ... .max, using: &random)
                checksum.append(word, after: gap)
                bytes += [UInt8](repeating: 0, count: 4 * gap)
                withUnsafeBytes(of: word.littleEndian) { bytes += $0 }
            }
            for end in [0, 1, 15, 16, 4097] {
                let whole = bytes + [UInt8](repeating: 0, count: 4 * end)
                #expect(checksum.value(after: end) == whole.withUnsafeBytes { crc32($0) })
            }
        }
    }

    /// Checks the checksum for gaps that are too long to compute byte by byte. Two gaps must give the same value as
    /// one gap of the same total length.
    @Test func longGapsAddUp() {
        for (a, b) in [(1 << 31, 1 << 31), (1 << 36 - 1, 1), (123_456_789_012, 987_654_321)] {
            var parts = SparseCRC32(from: 0x1234_5678)
            parts.append(0, after: a - 1)
            var whole = SparseCRC32(from: 0x1234_5678)
            whole.append(0, after: a + b - 1)
            #expect(parts.value(after: b) == whole.value(after: 0))
        }
    }

    // MARK: Huffman codes

    /// Checks that every Huffman code is complete and within its length limit. A rarer symbol must not have a shorter
    /// code word.
    @Test func codesAreComplete() {
        var random = SeededGenerator(3)
        var cases: [[Int]] = (2...40).map { count in
            (0..<count).map { _ in Int.random(in: 0...1000, using: &random) }
        }
        // The most skewed frequencies. Without a limit, the longest code word would have nearly 60 bits.
        var fibonacci = [1, 1]
        while fibonacci.count < 60 { fibonacci.append(fibonacci.suffix(2).reduce(0, +)) }
        cases.append(fibonacci)
        cases.append([1, 23_000_000, 1, 1, 0, 0, 5])
        for limit in [7, 15] {
            for frequencies in cases where frequencies.count(where: { $0 > 0 }) > 1 {
                let code = HuffmanCode(frequencies: frequencies, limit: limit)
                let used = frequencies.indices.filter { frequencies[$0] > 0 }
                #expect(used.allSatisfy { (1...UInt8(limit)).contains(code.lengths[$0]) })
                #expect(used.reduce(0) { $0 + 1 << (limit - Int(code.lengths[$1])) } == 1 << limit)
                for a in used {
                    for b in used where frequencies[a] < frequencies[b] {
                        #expect(code.lengths[a] >= code.lengths[b])
                    }
                }
                // No code word may be a prefix of another. The first bit of a code word is its lowest bit.
                for a in used {
                    for b in used where a != b && code.lengths[a] <= code.lengths[b] {
                        let mask = UInt16(1) << UInt16(code.lengths[a]) - 1
                        #expect(code.codes[b] & mask != code.codes[a])
                    }
                }
            }
        }
    }

    /// Checks that a code needs as few bits as Huffman's construction. The limit on lengths has no effect here.
    @Test func codesAreTheBest() {
        var random = SeededGenerator(4)
        for count in 2...50 {
            let frequencies = (0..<count).map { _ in Int.random(in: 1...10_000, using: &random) }
            let code = HuffmanCode(frequencies: frequencies, limit: 15)
            let bits = zip(frequencies, code.lengths).reduce(0) { $0 + $1.0 * Int($1.1) }
            // Joining two nodes adds one bit to the code word of every symbol below them.
            var (nodes, best) = (frequencies.sorted(), 0)
            while nodes.count > 1 {
                let sum = nodes[0] + nodes[1]
                best += sum
                nodes = (nodes.dropFirst(2) + [sum]).sorted()
            }
            #expect(bits == best)
        }
    }
}
