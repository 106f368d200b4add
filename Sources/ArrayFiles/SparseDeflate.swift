// The DEFLATE stream (RFC 1951) of an array that is nearly all zeros, made from what is not: in time proportional to
// that, where a compressor would go through gigabytes of zeros.
//
// A run of zeros is one literal and matches of length 258 at distance 1: two bits each in the one dynamic Huffman code
// that is made for all of the array. The array is gone through twice, to count symbols and to write them.

import Files

/// Calls its argument for each element that is not zero: index in C order, ascending, and value.
public typealias SparseElements = (_ element: (_ index: Int, _ value: Float) throws -> Void) throws
    -> Void

/// A member of an archive: a head of bytes, then float32 numbers.
struct SparseDeflate {
    let head: [UInt8]
    /// How many numbers there are.
    let count: Int

    /// Writes the stream to `file`; returns the CRC-32 of what it decodes to. `elements` is gone through twice, and is
    /// to be the same both times.
    func write(_ elements: SparseElements, to file: OutputFile) throws -> UInt32 {
        let counter = try go(through: elements, SymbolCounter(head))
        var writer = try go(
            through: elements, SymbolWriter(file, frequencies: counter.frequencies))
        try writer.finish()
        return counter.checksum
    }

    /// Gives `sink` all of the array, and returns it.
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

/// Where DEFLATE's symbols go.
private protocol SymbolSink {
    /// `zeros` zero words begin here, and after them, if there is one, the word `bits`.
    mutating func words(_ zeros: Int, then bits: UInt32?)
    mutating func literal(_ byte: UInt8) throws
    /// A match at distance 1 of 3 to 258 bytes.
    mutating func match(_ length: Int) throws
    /// `count` matches of 258 bytes at distance 1.
    mutating func longestMatches(_ count: Int) throws
}

/// Bytes as literals, and runs of zeros as matches.
private struct ZeroRunTokens<Sink: SymbolSink> {
    var sink: Sink
    /// Zero bytes that have not been given to the sink.
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

    /// Appends `words` zero words and one that is `word`, lowest byte first.
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
        // The byte before is not zero, so the first has nothing to be copied from.
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

/// How DEFLATE writes the length of a match: a symbol, and bits behind it.
private struct LengthCode {
    let symbol: Int
    let extra: Int
    let extraBits: Int

    /// For lengths 0…258; those below 3 are not used.
    static let all: [LengthCode] = {
        var codes = [LengthCode](
            repeating: LengthCode(symbol: 0, extra: 0, extraBits: 0), count: 259)
        var (length, symbol) = (3, 257)
        while symbol < 285 {
            // Four symbols for each number of bits, after eight without.
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

/// Counts symbols, and sums up what they stand for.
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

/// Writes one block of symbols.
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
    /// As many longest matches as fit one write.
    private var longest = Code()
    private let longestCount: Int
    private let endCode: Code

    init(_ file: OutputFile, frequencies: [Int]) throws {
        let code = HuffmanCode(frequencies: frequencies, limit: 15)
        // The only distance is 1, symbol 0; a code of a single symbol has one bit.
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
        // Its first codes are as many of the same.
        let bits = rest * matches[258].count
        try out.put(longest.bits & (1 << UInt64(bits) - 1), bits)
    }

    /// Ends the block and the stream.
    mutating func finish() throws {
        try out.put(endCode.bits, endCode.count)
        try out.finish()
    }
}

/// Bits, first the lowest, into a file.
private struct BitWriter {
    /// Most bits of one `put`.
    static let mostBits = 56

    private let file: OutputFile
    private let buffer = Buffer()
    private var position = 0
    private var bits: UInt64 = 0
    private var count = 0

    /// Memory that goes with its last owner.
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
        // Whole bytes go; at most seven bits stay, so that another 56 fit.
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
