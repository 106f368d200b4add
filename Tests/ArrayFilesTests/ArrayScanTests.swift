// Tests of ArrayScan: without unpacking an array, it must find the same nonzero elements as after unpacking.

import Files
import Foundation
import RunFiles
import TestSupport
import Testing

@testable import ArrayFiles

struct ArrayScanTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// Returns `bytes` compressed by zlib at `level`.
    private static func deflated(_ bytes: [UInt8], level: Int32) throws -> [UInt8] {
        var out: [UInt8] = []
        try bytes.withUnsafeBytes { input in
            try Deflater(level: level).write(input, finish: true) { out += $0 }
        }
        return out
    }

    private static func decoded(
        _ stream: [UInt8], size: Int
    ) throws -> (words: [Int: UInt32], outcome: ZeroRunInflater.Outcome) {
        var words: [Int: UInt32] = [:]
        var last = -1
        let outcome = try stream.withUnsafeBytes { stream in
            try ZeroRunInflater.decode(stream, size: size) { index, bits in
                #expect(index > last && bits != 0)
                last = index
                words[index] = bits
            }
        }
        return (words, outcome)
    }

    private static func words(of bytes: [UInt8]) -> [Int: UInt32] {
        var words: [Int: UInt32] = [:]
        for (i, byte) in bytes.enumerated() where byte != 0 {
            words[i / 4, default: 0] |= UInt32(byte) << UInt32(8 * (i % 4))
        }
        return words
    }

    /// Byte sequences of many kinds: nearly all zeros, no zeros, repetitions with short and long periods, odd sizes.
    static let contents: [[UInt8]] = {
        var random = SeededGenerator(11)
        var all: [[UInt8]] = [[], [0], [7], [0, 0, 0, 0, 9], Array(repeating: 0, count: 100_003)]
        for density in [0.0005, 0.02, 0.3, 1] {
            all.append(
                (0..<60_001).map { _ in
                    Double.random(in: 0..<1, using: &random) < density
                        ? UInt8.random(in: 0...255, using: &random) : 0
                })
        }
        for period in [1, 2, 3, 5, 258, 4000, 32_768, 32_769] {
            let unit = (0..<period).map { _ in
                Bool.random(using: &random) ? UInt8.random(in: 0...255, using: &random) : 0
            }
            all.append((0..<90_002).map { unit[$0 % period] })
        }
        // Some matches refer to bytes before a long run of zeros, or reach into it. The decoder's window does not
        // store the zeros of the run.
        for gap in [100, 20_000, 32_760, 40_000] {
            let word: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]
            let zeros = Array(repeating: UInt8(0), count: gap)
            all.append(word + zeros + word + [0, 0] + word + zeros + word)
        }
        return all
    }()

    @Test(arguments: contents.indices, [0, 1, 4, 9] as [Int32])
    func streamsOfZlibDecode(content: Int, level: Int32) throws {
        let bytes = ArrayScanTests.contents[content]
        let stream = try ArrayScanTests.deflated(bytes, level: level)
        let (words, outcome) = try ArrayScanTests.decoded(stream, size: bytes.count)
        #expect(words == ArrayScanTests.words(of: bytes))
        #expect(outcome.size == bytes.count)
        #expect(outcome.crc32 == bytes.withUnsafeBytes { crc32($0) })
    }

    @Test(arguments: SparseDeflateTests.patterns)
    func streamsOfOursDecode(pattern: SparseDeflateTests.Pattern) throws {
        let path = folder.file("a.npz")
        try OutputFile.make(path: path, temporaryDirectory: folder.path) { file in
            let archive = NPZWriter(file, level: 1)
            try archive.addSparse("x", NPYHeader(descr: "<f4", shape: [pattern.count])) { element in
                for place in pattern.words.keys.sorted() {
                    try element(place, Float(bitPattern: pattern.words[place]!))
                }
            }
            try archive.finish()
        }
        let scan = try NPZReader(path: path).scan("x")
        #expect(scan.header == NPYHeader(descr: "<f4", shape: [pattern.count]))
        var found: [Int: UInt32] = [:]
        try scan.forEachNonzero { found[$0] = UInt32($1) }
        #expect(found == pattern.words.filter { $0.value != 0 })
    }

    /// Returns a DEFLATE stream of one block with dynamic codes. `literals` and `distances` have the lengths of the
    /// code words, 0 to 2. `bits` is the data after the codes.
    private static func block(_ literals: [Int], _ distances: [Int], then bits: [Int]) -> [UInt8] {
        func number(_ value: Int, _ count: Int) -> [Int] { (0..<count).map { value >> $0 & 1 } }
        // In the code for code lengths, the symbols 0, 1, 2 and 18 have code words of two bits. Symbol 18 only makes
        // this code complete.
        let order = DynamicBlockHeader.order
        var all = [1] + number(2, 2) + number(literals.count - 257, 5)
        all += number(distances.count - 1, 5) + number(15, 4)
        for symbol in order { all += number([0, 1, 2, 18].contains(symbol) ? 2 : 0, 3) }
        for length in literals + distances { all += [length >> 1, length & 1] }
        all += bits
        return stride(from: 0, to: all.count, by: 8).map { start in
            UInt8(all[start...].prefix(8).reversed().reduce(0) { $0 << 1 | $1 })
        }
    }

    /// Checks that exactly the codes are refused that zlib refuses: codes with too few or too many code words, for
    /// too many symbols, or without a code word for the end of the block.
    @Test func codesAreThoseOfZlib() throws {
        func literals(_ lengths: [Int: Int], count: Int = 257) -> [Int] {
            (0..<count).map { lengths[$0] ?? 0 }
        }
        for (stream, isRight) in [
            // The bits of one zero and of the end of the block.
            (ArrayScanTests.block(literals([0: 1, 256: 1]), [0], then: [0, 1]), true),
            (ArrayScanTests.block(literals([0: 1, 256: 1]), [1], then: [0, 1]), true),
            (ArrayScanTests.block(literals([0: 1, 256: 1]), [1, 1], then: [0, 1]), true),
            (ArrayScanTests.block(literals([256: 1]), [0], then: [0]), true),
            (ArrayScanTests.block(literals([256: 1]), [0], then: [1]), false),
            (ArrayScanTests.block(literals([256: 2]), [0], then: [0, 0]), false),
            (ArrayScanTests.block(literals([0: 1, 256: 2]), [0], then: [0, 1, 0]), false),
            (ArrayScanTests.block(literals([0: 1, 256: 1]), [2], then: [0, 1]), false),
            (ArrayScanTests.block(literals([0: 1, 256: 1]), [1, 2], then: [0, 1]), false),
            (ArrayScanTests.block(literals([0: 1, 1: 1]), [1], then: [0, 1]), false),
            (ArrayScanTests.block(literals([0: 1, 1: 1, 256: 1]), [1], then: [0, 1]), false),
            (ArrayScanTests.block(literals([0: 1, 256: 1], count: 286), [0], then: [0, 1]), true),
            (
                ArrayScanTests.block(literals([0: 1, 256: 1], count: 287), [0], then: [0, 1]), false
            ),
            (
                ArrayScanTests.block(
                    literals([0: 1, 256: 1]), [Int](repeating: 0, count: 30), then: [0, 1]), true
            ),
            (
                ArrayScanTests.block(
                    literals([0: 1, 256: 1]), [Int](repeating: 0, count: 31), then: [0, 1]), false
            ),
        ] {
            var room = [UInt8](repeating: 1, count: 10)
            let zlib = stream.withUnsafeBytes { stream in
                room.withUnsafeMutableBytes { Inflater(.raw).read(stream, into: $0).status }
            }
            #expect((zlib == .end) == isRight)
            #expect(((try? ArrayScanTests.decoded(stream, size: 10)) != nil) == isRight)
        }
    }

    /// Checks damaged streams. The decoder must not crash. It must refuse the stream, or the size or checksum must
    /// differ if the words do.
    @Test func damagedStreamsAreNoticed() throws {
        var random = SeededGenerator(5)
        let bytes = ArrayScanTests.contents[6]
        let crc = bytes.withUnsafeBytes { crc32($0) }
        let expected = ArrayScanTests.words(of: bytes)
        for level: Int32 in [0, 1, 9] {
            let stream = try ArrayScanTests.deflated(bytes, level: level)
            for cut in [0, 1, 2, 3, 100, stream.count / 2, stream.count - 1] {
                #expect(throws: ZeroRunInflater.Problem.self) {
                    try ArrayScanTests.decoded(Array(stream.prefix(cut)), size: bytes.count)
                }
            }
            for _ in 0..<300 {
                var bad = stream
                let bit = Int.random(in: 0..<8 * bad.count - 8, using: &random)
                bad[bit / 8] ^= 1 << UInt8(bit % 8)
                // A changed bit may have no effect: a match at another distance may give the same zeros.
                guard let (words, outcome) = try? ArrayScanTests.decoded(bad, size: bytes.count)
                else { continue }
                let isSame = words == expected && outcome.size == bytes.count
                #expect((outcome.crc32 == crc && outcome.size == bytes.count) == isSame)
            }
        }
        for _ in 0..<2000 {
            let noise = (0..<Int.random(in: 1...300, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            _ = try? ArrayScanTests.decoded(noise, size: 100_000)
        }
        #expect(throws: ZeroRunInflater.Problem.tooLong) {
            try ArrayScanTests.decoded(
                ArrayScanTests.deflated(bytes, level: 1), size: bytes.count - 1)
        }
    }

    /// Checks elements of 1, 2, 4 and 8 bytes, stored and deflated, with the data at several offsets.
    @Test(arguments: [1, 2, 4, 8], [true, false])
    func elementsOfEverySize(size: Int, isDeflated: Bool) throws {
        var random = SeededGenerator(UInt64(size))
        let count = 5003
        let data = (0..<count * size).map { _ in
            Int.random(in: 0...9, using: &random) == 0
                ? UInt8.random(in: 0...255, using: &random) : 0
        }
        let header = NPYHeader(descr: size == 1 ? "|u1" : "<u\(size)", shape: [count])
        // NumPy before 1.14 aligned the data to 16 bytes. Other writers may start it at any offset.
        for cut in [0, 1, 3, 16] {
            var head = header.encoded
            head.removeSubrange(head.count - 1 - cut..<head.count - 1)
            head[8] -= UInt8(cut)
            let path: String
            if isDeflated {
                path = folder.file("\(cut).npz")
                try OutputFile.make(path: path, temporaryDirectory: folder.path) { file in
                    let stream = try ArrayScanTests.deflated(head + data, level: 6)
                    var zip = ZipBuilder()
                    zip.add(
                        "x.npy", stream, crc: (head + data).withUnsafeBytes { crc32($0) },
                        method: 8,
                        size: UInt32(head.count + data.count))
                    try file.write(zip.bytes)
                }
            } else {
                path = try folder.write(head + data, "\(cut).npy")
            }
            let scan = try isDeflated ? NPZReader(path: path).scan("x") : ArrayScan(npy: path)
            var found: [Int: UInt64] = [:]
            try scan.forEachNonzero { found[$0] = $1 }
            var expected: [Int: UInt64] = [:]
            for (i, byte) in data.enumerated() where byte != 0 {
                expected[i / size, default: 0] |= UInt64(byte) << UInt64(8 * (i % size))
            }
            #expect(found == expected, "\(cut)")
        }
    }

    @Test func whatDoesNotFitIsRefused() throws {
        let bytes = NPYHeader(descr: "<f4", shape: [3]).encoded + [UInt8](repeating: 1, count: 8)
        #expect(throws: NPZError.self) {
            try ArrayScan(npy: folder.write(bytes, "short.npy")).forEachNonzero { _, _ in }
        }
        var zip = ZipBuilder()
        zip.add("x.npy", bytes + [1, 1, 1, 1], crc: 1)
        let path = try folder.write(zip.bytes, "crc.npz")
        #expect(throws: NPZError.badMember(path: path, member: "x", reason: "has a wrong CRC-32")) {
            try NPZReader(path: path).scan("x").forEachNonzero { _, _ in }
        }
        // Types that must be refused: objects, and names that a careless parser would accept as number types.
        for type in ["|O", "<f+4", "<f04", "|f1", "<b2", "<u3", "<f", "f4", ">f4", "|f4", ""] {
            let array = NPYHeader(descr: type, shape: [1]).encoded + [0, 0, 0, 0]
            #expect(throws: NPZError.self, "\(type)") {
                try ArrayScan(npy: folder.write(array, "o.npy")).forEachNonzero { _, _ in }
            }
        }
    }
}

struct PickleTests {
    private let metadata = FeatureMetadata(
        author: "lantérne \"x\"", documentCount: 3, layer: 12, tokensPerDocument: [5, 359, 1, 0],
        saeName: "layer_12/width_16k/average_l0_82")

    @Test func metadataComesBack() throws {
        #expect(try FeatureMetadata(pickle: metadata.pickle) == metadata)
        let long = FeatureMetadata(
            author: "", documentCount: 70_000, layer: 0,
            tokensPerDocument: (0..<70_000).map { Int32($0) }, saeName: "")
        #expect(try FeatureMetadata(pickle: long.pickle) == long)
    }

    /// Checks the opcodes of protocol 4, which NumPy 2 writes: memo by number, frames, short strings.
    @Test func otherProtocolsAreRead() throws {
        func short(_ text: String) -> [UInt8] { [0x8C, UInt8(text.utf8.count)] + Array(text.utf8) }
        let pickle: [UInt8] =
            [0x80, 4, 0x95, 1, 0, 0, 0, 0, 0, 0, 0] + Array("}".utf8) + [0x94]
            + Array("(".utf8) + short("a") + [0x94, UInt8(ascii: "K"), 7] + short("b")
            + [0x94, 0x8A, 2, 0x00, 0xFF] + Array("G".utf8) + [0x3F, 0xF8, 0, 0, 0, 0, 0, 0]
            + [0x88] + Array("u.".utf8)
        let value = try PickleValue(pickle: pickle)
        #expect(value["a"] == .integer(7) && value["b"] == .integer(-256))
        #expect(
            value
                == .dictionary([
                    .init(key: .string("a"), value: .integer(7)),
                    .init(key: .string("b"), value: .integer(-256)),
                    .init(key: .number(1.5), value: .bool(true)),
                ]))
    }

    /// Checks that reading a pickle never calls a function, whether the function is harmful or only unknown.
    @Test(arguments: [
        "cos\nsystem\n(X\u{4}\0\0\0truetR.", "cbuiltins\neval\n(X\u{1}\0\0\01tR.",
        "c__builtin__\ngetattr\n.", "cnumpy.testing\nrundocs\n)R.", "(S'x'\nIos\nsystem\n.",
    ])
    func nothingIsExecuted(pickle: String) {
        #expect(throws: PickleError.self) { try PickleValue(pickle: [UInt8](pickle.utf8)) }
    }

    private func number(_ value: Int) -> [UInt8] {
        withUnsafeBytes(of: UInt32(value).littleEndian, Array.init)
    }

    /// Checks that a dtype's byte order must be one of four, and can be set only once. Otherwise a pickle could make
    /// the dtype's name longer and longer.
    @Test func typesHaveShortNames() throws {
        func dtype(_ name: String, orders: [String]) -> [UInt8] {
            func text(_ text: String) -> [UInt8] {
                Array("X".utf8) + number(text.utf8.count) + Array(text.utf8)
            }
            return [0x80, 3] + Array("cnumpy\ndtype\n(".utf8) + text(name) + [0x89, 0x88]
                + Array("tR".utf8)
                + orders.flatMap { Array("(K\u{3}".utf8) + text($0) + Array("tb".utf8) }
                + Array(".".utf8)
        }
        #expect(try PickleValue(pickle: dtype("i4", orders: ["<"])) == .dtype("<i4"))
        #expect(try PickleValue(pickle: dtype("i4", orders: ["="])) == .dtype("=i4"))
        for (name, orders) in [
            ("i4", ["<<"]), ("i4", [""]), ("i4", ["x"]), ("i4", ["<", "<"]), ("i4", ["|", "<"]),
            (String(repeating: "i", count: 17), ["<"]), (String(repeating: "i", count: 16), ["<"]),
            ("i4", [String(repeating: "<", count: 1 << 20)]),
        ] {
            #expect(throws: PickleError.self) {
                try PickleValue(pickle: dtype(name, orders: orders))
            }
        }
    }

    /// Checks that values are counted each time they are stored in the memo. Otherwise a small pickle could fill the
    /// memory.
    @Test func whatIsKeptIsCounted() {
        let many = [UInt8](repeating: UInt8(ascii: "N"), count: 200_000)
        let grown =
            Array("](".utf8) + many + Array("e".utf8)
            + (0..<2000).flatMap { Array("r".utf8) + number($0) + Array("Na".utf8) }
        let kept =
            Array("(".utf8) + many + Array("t".utf8)
            + (0..<2000).flatMap { Array("r".utf8) + number($0) }
        for pickle in [grown, kept] {
            let error = #expect(throws: PickleError.self) {
                try PickleValue(pickle: [0x80, 3] + pickle + Array(".".utf8))
            }
            #expect(error == .refused("too many values"))
        }
    }

    @Test func damageIsAnError() throws {
        let pickle = metadata.pickle
        for count in 0..<pickle.count {
            #expect(throws: PickleError.self) {
                try PickleValue(pickle: Array(pickle.prefix(count)))
            }
        }
        var random = SeededGenerator(8)
        for _ in 0..<5000 {
            var bad = pickle
            bad[Int.random(in: 0..<bad.count, using: &random)] = UInt8.random(
                in: 0...255, using: &random)
            _ = try? FeatureMetadata(pickle: bad)
        }
        // First, tuples nested a million levels deep. Then a value that doubles in size with each reference.
        let deep = [UInt8(ascii: "N")] + [UInt8](repeating: 0x85, count: 1_000_000)
        #expect(throws: PickleError.refused("too many lists")) {
            try PickleValue(pickle: deep + [UInt8(ascii: ".")])
        }
        var wide: [UInt8] = [UInt8(ascii: "N"), 0x85, UInt8(ascii: "q"), 0]
        for _ in 0..<100 {
            wide += [UInt8(ascii: "h"), 0, UInt8(ascii: "h"), 0, 0x86, UInt8(ascii: "q"), 0]
        }
        #expect(throws: PickleError.refused("too many values")) {
            try PickleValue(pickle: wide + [UInt8(ascii: ".")])
        }
    }

    /// Checks a list that is written in parts, as Python writes long lists.
    @Test func listsGrow() throws {
        var pickle: [UInt8] = Array("]".utf8)
        for part in 0..<1000 as Range<Int> {
            pickle += Array("(".utf8)
            for _ in 0..<200 {
                pickle += [UInt8(ascii: "M"), UInt8(part & 0xFF), UInt8(part >> 8)]
            }
            pickle += Array("e".utf8) + Array("Na".utf8)
        }
        let value = try PickleValue(pickle: pickle + [UInt8(ascii: ".")])
        guard case .list(let values) = value else {
            Issue.record("not a list")
            return
        }
        #expect(values.count == 201_000 && values.last == PickleValue.none)
        #expect(values[201 * 777] == .integer(777) && values[201 * 777 + 200] == .none)
    }
}
