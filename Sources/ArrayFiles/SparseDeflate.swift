// Writes the DEFLATE stream (RFC 1951) of an array that is nearly all zero. The time is proportional to the number of
// nonzero elements. A general compressor would read gigabytes of zeros.
//
// A run of zero bytes becomes one literal, then matches of length 258 at distance 1. Such a match usually takes two
// bits. The writer reads the elements twice: first to count the symbols for the Huffman code, then to write them.

import Files

/// A function that calls `element` with each nonzero element of an array. `index` is the index in C order; it
/// ascends.
public typealias SparseElements = (_ element: (_ index: Int, _ value: Float) throws -> Void) throws
    -> Void

/// The content of a member of an archive: a header, then float32 numbers.
struct SparseDeflate {
    let head: [UInt8]
    /// The number of float32 numbers.
    let count: Int

    /// Writes the stream to `file` and returns the CRC-32 of the unpacked bytes. Calls `elements` twice; both calls
    /// must give the same elements.
    func write(_ elements: SparseElements, to file: OutputFile) throws -> UInt32 {
        let counter = try go(through: elements, SymbolCounter(head))
        var writer = try go(
            through: elements, SymbolWriter(file, frequencies: counter.frequencies))
        try writer.finish()
        return counter.checksum
    }

    /// Converts the header and all numbers to symbols, sends them to `sink`, and returns `sink`.
    private func go<Sink: SymbolSink>(
        through elements: SparseElements, _ sink: Sink
    ) throws -> Sink {
        var tokens = ZeroRunTokens(sink: sink)
        for byte in head { try tokens.append(byte: byte) }
        var next = 0
        try elements { index, value in
            precondition(index >= next && index < count, "elements must ascend within the array")
            try tokens.append(word: value.bitPattern, after: index - next)
            next = index + 1
        }
        try tokens.finish(zeroWords: count - next)
        return tokens.sink
    }
}

/// Receives the symbols of a DEFLATE stream in order.
private protocol SymbolSink {
    /// Announces `zeros` zero words, then the word `bits` if it is not nil. Their literals and matches follow in
    /// calls of the other functions.
    mutating func words(_ zeros: Int, then bits: UInt32?)
    mutating func literal(_ byte: UInt8) throws
    /// Receives a match of `length` bytes (3 to 258) at distance 1.
    mutating func match(_ length: Int) throws
    /// Receives `count` matches of 258 bytes at distance 1.
    mutating func longestMatches(_ count: Int) throws
}

/// Converts bytes to literals, and runs of zero bytes to matches.
private struct ZeroRunTokens<Sink: SymbolSink> {
    var sink: Sink
    /// The number of zero bytes that have not been sent to the sink.
    private var zeros = 0

    init(sink: Sink) {
        self.sink = sink
    }

    @inline(__always)
    mutating func append(byte: UInt8) throws {
        if byte == 0 {
            zeros += 1
        } else {
            if zeros > 0 { try flush() }
            try sink.literal(byte)
        }
    }

    /// Appends `words` zero words, then `word`, lowest byte first.
    @inline(__always)
    mutating func append(word: UInt32, after words: Int) throws {
        sink.words(words, then: word)
        zeros += 4 * words
        for shift: UInt32 in [0, 8, 16, 24] {
            try append(byte: UInt8(truncatingIfNeeded: word >> shift))
        }
    }

    mutating func finish(zeroWords: Int) throws {
        sink.words(zeroWords, then: nil)
        zeros += 4 * zeroWords
        if zeros > 0 { try flush() }
    }

    private mutating func flush() throws {
        // A match at distance 1 repeats the byte before it. So the first zero of a run must be a literal.
        try sink.literal(0)
        let (longest, rest) = (zeros - 1).quotientAndRemainder(dividingBy: 258)
        if longest > 0 { try sink.longestMatches(longest) }
        if rest >= 3 {
            try sink.match(rest)
        } else {
            for _ in 0..<rest { try sink.literal(0) }
        }
        zeros = 0
    }
}

/// How DEFLATE encodes the length of a match: a symbol and extra bits.
private struct LengthCode {
    let symbol: Int
    let extra: Int
    let extraBits: Int

    /// The codes of the match lengths 0...258. Those of 0, 1 and 2 are not used, because a match has at least 3
    /// bytes.
    static let all: [LengthCode] = {
        var codes = [LengthCode](
            repeating: LengthCode(symbol: 0, extra: 0, extraBits: 0), count: 259)
        var (length, symbol) = (3, 257)
        while symbol < 285 {
            // The first eight symbols have no extra bits, the next four have one each, the next four two, and so on.
            let bits = symbol < 265 ? 0 : (symbol - 261) / 4
            for extra in 0..<1 << bits where length + extra < 258 {
                codes[length + extra] = LengthCode(symbol: symbol, extra: extra, extraBits: bits)
            }
            length += 1 << bits
            symbol += 1
        }
        codes[258] = LengthCode(symbol: 285, extra: 0, extraBits: 0)
        return codes
    }()
}

private let endOfBlock = 256

/// Counts the symbols, and computes the CRC-32 of the decoded bytes.
private struct SymbolCounter: SymbolSink {
    private(set) var frequencies = [Int](repeating: 0, count: 286)
    private(set) var checksum: UInt32 = 0
    private var words: SparseCRC32
    private let lengthSymbols = LengthCode.all.map(\.symbol)

    init(_ head: [UInt8]) {
        words = SparseCRC32(from: head.withUnsafeBytes { crc32($0) })
        frequencies[endOfBlock] = 1
    }

    mutating func words(_ zeros: Int, then bits: UInt32?) {
        if let bits {
            words.append(bits, after: zeros)
        } else {
            checksum = words.value(after: zeros)
        }
    }

    mutating func literal(_ byte: UInt8) { frequencies[Int(byte)] += 1 }
    mutating func match(_ length: Int) { frequencies[lengthSymbols[length]] += 1 }
    mutating func longestMatches(_ count: Int) { frequencies[285] += count }
}

/// Writes the symbols of one block to a file.
private struct SymbolWriter: SymbolSink {
    private struct Code {
        var bits: UInt64 = 0
        var count = 0

        mutating func append(_ value: Int, _ bits: Int) {
            self.bits |= UInt64(value) << UInt64(count)
            count += bits
        }
    }

    private var out: BitWriter
    private var literals: [Code]
    private var matches: [Code]
    /// The code of a 258-byte match, repeated as often as fits into one call of `put` (56 bits).
    private var longest = Code()
    private let longestCount: Int
    private let endCode: Code

    init(_ file: OutputFile, frequencies: [Int]) throws {
        let code = HuffmanCode(frequencies: frequencies, limit: 15)
        // The only distance is 1, which has symbol 0. The code word of a single symbol has one bit.
        let distances = HuffmanCode(frequencies: [1], limit: 15)
        func symbol(_ symbol: Int) -> Code {
            Code(bits: UInt64(code.codes[symbol]), count: Int(code.lengths[symbol]))
        }
        literals = (0..<256).map(symbol)
        matches = LengthCode.all.map { length in
            var code = symbol(length.symbol)
            code.append(length.extra, length.extraBits)
            code.append(Int(distances.codes[0]), Int(distances.lengths[0]))
            return code
        }
        longestCount = BitWriter.mostBits / matches[258].count
        for _ in 0..<longestCount { longest.append(Int(matches[258].bits), matches[258].count) }
        endCode = symbol(endOfBlock)
        out = BitWriter(file)
        for field in DynamicBlockHeader(literals: code, distances: distances).fields {
            try out.put(UInt64(field.value), field.bits)
        }
    }

    mutating func words(_ zeros: Int, then bits: UInt32?) {}

    mutating func literal(_ byte: UInt8) throws {
        let code = literals[Int(byte)]
        try out.put(code.bits, code.count)
    }

    mutating func match(_ length: Int) throws {
        let code = matches[length]
        try out.put(code.bits, code.count)
    }

    mutating func longestMatches(_ count: Int) throws {
        var rest = count
        while rest >= longestCount {
            try out.put(longest.bits, longest.count)
            rest -= longestCount
        }
        // `longest` repeats one code, so its lowest `bits` bits are `rest` repetitions of this code.
        let bits = rest * matches[258].count
        try out.put(longest.bits & (1 << UInt64(bits) - 1), bits)
    }

    /// Ends the block and writes the rest of the stream to the file.
    mutating func finish() throws {
        try out.put(endCode.bits, endCode.count)
        try out.finish()
    }
}

/// Writes bits to a file. The first bit is the lowest bit of the first byte.
private struct BitWriter {
    /// The most bits that one `put` accepts.
    static let mostBits = 56

    private let file: OutputFile
    private let buffer = Buffer()
    private var position = 0
    private var bits: UInt64 = 0
    private var count = 0

    /// This is a class, so that its memory is freed when the last reference is released.
    private final class Buffer {
        static let size = 1 << 16
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)

        deinit { bytes.deallocate() }
    }

    init(_ file: OutputFile) {
        self.file = file
    }

    @inline(__always)
    mutating func put(_ value: UInt64, _ bits: Int) throws {
        self.bits |= value << UInt64(count)
        count += bits
        // Moves whole bytes to the buffer. At most seven bits remain, so another 56 bits fit.
        buffer.bytes.storeBytes(
            of: self.bits.littleEndian, toByteOffset: position, as: UInt64.self)
        position += count >> 3
        self.bits >>= UInt64(count & ~7)
        count &= 7
        if position > Buffer.size - 8 { try flush() }
    }

    private mutating func flush() throws {
        try file.write(UnsafeRawBufferPointer(start: buffer.bytes, count: position))
        position = 0
    }

    mutating func finish() throws {
        if count > 0 { try put(0, 8 - count) }
        try flush()
    }
}
