// Decodes DEFLATE streams (RFC 1951) of bytes that are nearly all zero, as `SparseDeflate` or zlib writes them. The
// zeros are not stored. The result is the index and value of each nonzero word.

import Files
import Glibc

/// Decodes one stream into its nonzero 32-bit little-endian words.
struct ZeroRunInflater {
    /// The size and checksum of the decoded bytes.
    struct Outcome: Equatable {
        /// The number of decoded bytes.
        var size: Int
        /// The CRC-32 of all decoded bytes.
        var crc32: UInt32
    }

    /// Why a stream cannot be decoded.
    enum Problem: Error, Equatable {
        /// The stream is not valid DEFLATE; the string says why.
        case damaged(String)
        /// The stream ends too early.
        case truncated
        /// The stream decodes to more bytes than the caller announced.
        case tooLong
    }

    /// The largest distance of a match, in bytes.
    private static let windowSize = 1 << 15

    private var bits: BitReader
    private var words: WordAssembler
    /// A ring buffer of the last 32 KiB of decoded bytes. An element has the byte in its lower 8 bits, and the
    /// position of the byte in the output in its upper 56 bits. Zero bytes are not stored. If the element for a
    /// position has another position, the byte is zero.
    private let window = UnsafeMutablePointer<UInt64>.allocate(capacity: windowSize)
    private var position = 0
    /// The number of zero bytes since the last nonzero byte, or since the start.
    private var zeros = 0
    private let limit: Int

    /// Decodes `input`. Calls `body` with the index and bits of each nonzero word, by ascending index. The last word
    /// is padded with zero bytes. Throws `Problem` if the stream is damaged or decodes to more than `size` bytes.
    /// Throws what `body` throws. If the stream decodes to fewer bytes, `Outcome.size` tells so.
    static func decode(
        _ input: UnsafeRawBufferPointer, size: Int,
        _ body: (_ index: Int, _ bits: UInt32) throws -> Void
    ) throws -> Outcome {
        var inflater = ZeroRunInflater(input, limit: size)
        defer { inflater.window.deallocate() }
        return try inflater.run(body)
    }

    private init(_ input: UnsafeRawBufferPointer, limit: Int) {
        bits = BitReader(input)
        words = WordAssembler()
        self.limit = limit
        window.initialize(repeating: 0, count: ZeroRunInflater.windowSize)
    }

    private mutating func run(_ body: (Int, UInt32) throws -> Void) throws -> Outcome {
        var isLast = false
        while !isLast {
            isLast = try bits.take(1) == 1
            switch try bits.take(2) {
            case 0: try copyStored(body)
            case 1: try decodeBlock(.fixed, body)
            case 2: try decodeBlock(try BlockCodes(&bits), body)
            default: throw Problem.damaged("a block of unknown type")
            }
        }
        try words.flush(body)
        return Outcome(size: position, crc32: words.checksum(size: position))
    }

    private mutating func copyStored(_ body: (Int, UInt32) throws -> Void) throws {
        bits.alignToByte()
        let count = try bits.take(16)
        guard try bits.take(16) == ~count & 0xFFFF else {
            throw Problem.damaged("a stored block with a wrong length")
        }
        for _ in 0..<count { try put(UInt8(try bits.take(8)), body) }
    }

    private mutating func decodeBlock(
        _ codes: BlockCodes, _ body: (Int, UInt32) throws -> Void
    ) throws {
        // Works on a local copy, which stays in registers. Decoding spends almost all of its time in this loop.
        var bits = self.bits
        defer { self.bits = bits }
        var run = RepeatedBits()
        try codes.withTables { literals, distances in
            while true {
                // One refill is enough for a length and a distance, which take at most 48 bits with their extra bits:
                // 15 + 5 and 15 + 13.
                if bits.count < 48 { bits.refill() }
                let before = (buffer: bits.buffer, count: bits.count)
                let entry = try literals.decode(&bits)
                switch entry.kind {
                case .literal: try put(UInt8(truncatingIfNeeded: entry.value), body)
                case .end: return
                case .pointer:
                    let length = entry.value + (try bits.takeBuffered(entry.extraBits))
                    let back = try distances.decode(&bits)
                    guard back.kind == .pointer else {
                        throw Problem.damaged("a distance that does not exist")
                    }
                    let distance = back.value + (try bits.takeBuffered(back.extraBits))
                    guard distance <= min(position, ZeroRunInflater.windowSize) else {
                        throw Problem.damaged("a match that begins before the data")
                    }
                    guard distance <= zeros else {
                        try copy(length, distance, body)
                        continue
                    }
                    try skip(length)
                    // In a long run of zeros, the same few bits repeat. The code counts the repetitions instead of
                    // decoding each of them.
                    guard length == 258 else { continue }
                    let width = before.count - bits.count
                    run.set(before.buffer & (1 << UInt64(width) - 1), width: width)
                    var count: Int
                    repeat {
                        bits.refill()
                        count = run.count(in: bits.buffer, of: bits.count)
                        bits.drop(count &* width)
                        try skip(258 &* count)
                    } while count == run.most
                case .invalid: throw Problem.damaged("a code that does not exist")
                }
            }
        }
    }

    /// Adds `count` zero bytes to the output. Throws `Problem.tooLong` if the output would exceed `limit`.
    @inline(__always)
    private mutating func skip(_ count: Int) throws {
        guard count <= limit - position else { throw Problem.tooLong }
        position += count
        zeros += count
    }

    @inline(__always)
    private mutating func put(_ byte: UInt8, _ body: (Int, UInt32) throws -> Void) throws {
        guard byte != 0 else { return try skip(1) }
        guard position < limit else { throw Problem.tooLong }
        window[position & (ZeroRunInflater.windowSize - 1)] =
            UInt64(truncatingIfNeeded: position) << 8 | UInt64(byte)
        try words.put(byte, at: position, body)
        position += 1
        zeros = 0
    }

    private mutating func copy(
        _ length: Int, _ distance: Int, _ body: (Int, UInt32) throws -> Void
    ) throws {
        for _ in 0..<length {
            let source = position - distance
            let entry = window[source & (ZeroRunInflater.windowSize - 1)]
            try put(
                entry >> 8 == UInt64(truncatingIfNeeded: source)
                    ? UInt8(truncatingIfNeeded: entry) : 0, body)
        }
    }
}

/// Counts how often a short bit pattern repeats at the front of a bit buffer.
private struct RepeatedBits {
    private var pattern: UInt64 = 0
    private(set) var width = 0
    /// The most repetitions that one comparison can count: as many as fit into 56 bits.
    private(set) var most = 0
    private var repeated: UInt64 = 0
    /// 2¹² / `width`, rounded up. For n up to 64, `n * reciprocal >> 12` is n / `width`, rounded down.
    private var reciprocal = 0

    /// Sets the pattern that is counted. `pattern` has `width` bits.
    @inline(__always)
    mutating func set(_ pattern: UInt64, width: Int) {
        guard pattern != self.pattern || width != self.width else { return }
        (self.pattern, self.width) = (pattern, width)
        most = 56 / width
        repeated = (0..<most).reduce(0) { $0 | pattern << UInt64($1 * width) }
        reciprocal = (1 << 12 + width - 1) / width
    }

    /// Returns how often the pattern repeats from bit 0 of `buffer` on, at most `most` times. Only the lowest
    /// `available` bits of `buffer` count.
    @inline(__always)
    func count(in buffer: UInt64, of available: Int) -> Int {
        let equal = min((buffer ^ repeated).trailingZeroBitCount, available)
        return min(equal &* reciprocal >> 12, most)
    }
}

/// Assembles nonzero bytes into words and computes the checksum of all words.
private struct WordAssembler {
    private var checksum = SparseCRC32(from: 0)
    private var index = 0
    private var word: UInt32 = 0
    /// The number of words that the checksum covers.
    private var checked = 0

    @inline(__always)
    mutating func put(
        _ byte: UInt8, at position: Int, _ body: (Int, UInt32) throws -> Void
    ) throws {
        let now = position >> 2
        if now != index {
            try flush(body)
            index = now
        }
        word |= UInt32(byte) << UInt32(8 * (position & 3))
    }

    @inline(__always)
    mutating func flush(_ body: (Int, UInt32) throws -> Void) throws {
        guard word != 0 else { return }
        try body(index, word)
        // If this is the last word, it may be incomplete. Then `checksum(size:)` starts from the checksum before this
        // word and adds only the bytes that exist.
        last = word
        checksumBefore = (checksum, checked)
        checksum.append(word, after: index - checked)
        checked = index + 1
        word = 0
    }

    private var last: UInt32 = 0
    private var checksumBefore = (SparseCRC32(from: 0), 0)

    /// Returns the CRC-32 of all `size` bytes.
    func checksum(size: Int) -> UInt32 {
        let whole = size >> 2
        let rest = size & 3
        guard rest > 0 else { return checksum.value(after: whole - checked) }
        let isPart = checked > whole
        let (before, count) = isPart ? checksumBefore : (checksum, checked)
        let tail = isPart ? last : 0
        return withUnsafeBytes(of: tail.littleEndian) {
            Files.crc32(
                UnsafeRawBufferPointer(rebasing: $0[..<rest]),
                from: before.value(after: whole - count))
        }
    }
}

/// Reads bits from bytes. The first bit is the lowest bit of the first byte.
private struct BitReader {
    private let input: UnsafeRawBufferPointer
    private var next = 0
    /// The bits that were read from the input and not taken yet, the next one lowest. Bits at `count` and above are
    /// zero.
    private(set) var buffer: UInt64 = 0
    private(set) var count = 0

    init(_ input: UnsafeRawBufferPointer) {
        self.input = input
    }

    /// Fills the buffer to at least 56 bits. At the end of the input, fills it with the rest of the input.
    @inline(__always)
    mutating func refill() {
        if next + 8 <= input.count {
            let word = UInt64(
                littleEndian: input.loadUnaligned(fromByteOffset: next, as: UInt64.self))
            let bytes = (63 - count) >> 3
            // Only whole bytes are kept, so that the bits at `count` and above stay zero.
            buffer |= (word & (UInt64.max >> UInt64(64 - 8 * bytes))) << UInt64(count)
            next += bytes
            count += 8 * bytes
        } else {
            while count <= 56, next < input.count {
                buffer |= UInt64(input[next]) << UInt64(count)
                next += 1
                count += 8
            }
        }
    }

    /// Takes the next `width` bits, at most 16. Throws `Problem.truncated` at the end of the input.
    mutating func take(_ width: Int) throws -> Int {
        refill()
        return try takeBuffered(width)
    }

    /// Takes the next `width` bits from the buffer, without a refill. Throws `Problem.truncated` if the buffer has
    /// fewer.
    @inline(__always)
    mutating func takeBuffered(_ width: Int) throws -> Int {
        guard count >= width else { throw ZeroRunInflater.Problem.truncated }
        let value = Int(truncatingIfNeeded: buffer & (1 << UInt64(width) &- 1))
        drop(width)
        return value
    }

    /// Removes the next `width` bits from the buffer. `width` must be below 64 and at most `count`.
    @inline(__always)
    mutating func drop(_ width: Int) {
        buffer &>>= UInt64(truncatingIfNeeded: width)
        count &-= width
    }

    mutating func alignToByte() { drop(count & 7) }
}

/// What one code word stands for, and the length of the code word.
private struct CodeEntry {
    enum Kind: UInt32 {
        case invalid
        case literal
        /// The symbol of a length or of a distance.
        case pointer
        case end
    }

    private var packed: UInt32

    init(kind: Kind = .invalid, extra: Int = 0, base: Int = 0) {
        packed = UInt32(base) << 16 | UInt32(extra) << 8 | kind.rawValue
    }

    @inline(__always) var kind: Kind { Kind(rawValue: packed & 3).unsafelyUnwrapped }
    /// The literal byte, or the smallest length or distance of the symbol.
    @inline(__always) var value: Int { Int(packed >> 16) }
    /// The number of extra bits that follow the code word. Their value is added to `value`.
    @inline(__always) var extraBits: Int { Int(packed >> 8 & 15) }
    /// The length of the code word in bits; 0 if the entry is empty.
    @inline(__always) var width: Int {
        get { Int(packed >> 4 & 15) }
        set { packed = packed & ~0xF0 | UInt32(newValue) << 4 }
    }
}

/// The decoding tables of one code. `near` fits into the L1 cache: its index has at most 10 bits, so it has only code
/// words of up to 10 bits. `far` has all code words.
private struct CodeTable {
    private let near: [CodeEntry]
    private let far: [CodeEntry]

    /// Builds the tables of the canonical code with these lengths (RFC 1951, 3.2.2). `meaning` returns what a symbol
    /// stands for. Throws `Problem` unless the code is complete. If `mayBeSingle` is true, also accepts a code with a
    /// single code word of one bit, or with no code words, as zlib does (RFC 1951, 3.2.7).
    init(
        lengths: ArraySlice<UInt8>, mayBeSingle: Bool, _ meaning: (Int) -> CodeEntry
    ) throws {
        let lengths = Array(lengths)
        let longest = Int(lengths.max() ?? 0)
        let used = lengths.reduce(0) { $0 + ($1 > 0 ? 1 << (15 - Int($1)) : 0) }
        guard used <= 1 << 15 else {
            throw ZeroRunInflater.Problem.damaged("a Huffman code with too many code words")
        }
        guard used == 1 << 15 || mayBeSingle && longest <= 1 else {
            throw ZeroRunInflater.Problem.damaged("a Huffman code with too few code words")
        }
        let code = HuffmanCode(lengths: lengths)
        var entries = [CodeEntry](repeating: CodeEntry(), count: 1 << longest)
        for symbol in lengths.indices where lengths[symbol] > 0 {
            var entry = meaning(symbol)
            entry.width = Int(lengths[symbol])
            let step = 1 << Int(lengths[symbol])
            for slot in stride(from: Int(code.codes[symbol]), to: entries.count, by: step) {
                entries[slot] = entry
            }
        }
        far = entries
        // For a longer code word, `near` has width 0, and `decode` looks in `far`.
        near = entries.prefix(1 << min(longest, 10)).map { $0.width <= 10 ? $0 : CodeEntry() }
    }

    func withEntries<Result>(_ body: (CodeEntries) throws -> Result) rethrows -> Result {
        try near.withUnsafeBufferPointer { near in
            try far.withUnsafeBufferPointer { far in
                try body(CodeEntries(near: near, far: far))
            }
        }
    }
}

/// The entries of a `CodeTable`, valid inside `withEntries`.
private struct CodeEntries {
    private let near: UnsafePointer<CodeEntry>
    private let nearMask: UInt64
    private let far: UnsafePointer<CodeEntry>
    private let farMask: UInt64

    init(near: UnsafeBufferPointer<CodeEntry>, far: UnsafeBufferPointer<CodeEntry>) {
        (self.near, nearMask) = (near.baseAddress!, UInt64(near.count - 1))
        (self.far, farMask) = (far.baseAddress!, UInt64(far.count - 1))
    }

    @inline(__always)
    func decode(_ bits: inout BitReader) throws -> CodeEntry {
        var entry = near[Int(truncatingIfNeeded: bits.buffer & nearMask)]
        if entry.width == 0 { entry = far[Int(truncatingIfNeeded: bits.buffer & farMask)] }
        guard entry.width <= bits.count else { throw ZeroRunInflater.Problem.truncated }
        bits.drop(entry.width)
        return entry
    }
}

/// The literal/length code and the distance code of a block.
private struct BlockCodes {
    let literals: CodeTable
    let distances: CodeTable

    /// The fixed codes of RFC 1951, 3.2.6.
    static let fixed: BlockCodes = {
        let lengths = (0..<288).map { symbol -> UInt8 in
            switch symbol {
            case 144..<256: 9
            case 256..<280: 7
            default: 8
            }
        }
        // The symbols 286 and 287 and the distance symbols 30 and 31 have code words, but do not occur in valid data.
        return try! BlockCodes(lengths[...], [UInt8](repeating: 5, count: 32)[...])
    }()

    /// Calls `body` with the tables of the literal/length code and of the distance code.
    func withTables<Result>(_ body: (CodeEntries, CodeEntries) throws -> Result) rethrows -> Result
    {
        try literals.withEntries { literals in
            try distances.withEntries { try body(literals, $0) }
        }
    }

    private init(_ literals: ArraySlice<UInt8>, _ distances: ArraySlice<UInt8>) throws {
        self.literals = try CodeTable(
            lengths: literals, mayBeSingle: true, BlockCodes.literalMeaning)
        self.distances = try CodeTable(
            lengths: distances, mayBeSingle: true, BlockCodes.distanceMeaning)
    }

    /// Reads the codes from the header of a dynamic block (RFC 1951, 3.2.7). Throws `Problem`.
    init(_ bits: inout BitReader) throws {
        let literalCount = try bits.take(5) + 257
        let distanceCount = try bits.take(5) + 1
        let codeCount = try bits.take(4) + 4
        guard literalCount <= 286, distanceCount <= 30 else {
            throw ZeroRunInflater.Problem.damaged("more code lengths than symbols")
        }
        var codeLengths = [UInt8](repeating: 0, count: 19)
        for symbol in DynamicBlockHeader.order.prefix(codeCount) {
            codeLengths[symbol] = UInt8(try bits.take(3))
        }
        let code = try CodeTable(lengths: codeLengths[...], mayBeSingle: false) {
            CodeEntry(kind: .literal, base: $0)
        }
        var lengths: [UInt8] = []
        while lengths.count < literalCount + distanceCount {
            bits.refill()
            let entry = try code.withEntries { try $0.decode(&bits) }
            guard entry.kind == .literal else {
                throw ZeroRunInflater.Problem.damaged("a code length that does not exist")
            }
            switch entry.value {
            case 16:
                guard let before = lengths.last else {
                    throw ZeroRunInflater.Problem.damaged("a repetition without a first length")
                }
                lengths += repeatElement(before, count: 3 + (try bits.take(2)))
            case 17: lengths += repeatElement(0, count: 3 + (try bits.take(3)))
            case 18: lengths += repeatElement(0, count: 11 + (try bits.take(7)))
            default: lengths.append(UInt8(entry.value))
            }
        }
        guard lengths.count == literalCount + distanceCount else {
            throw ZeroRunInflater.Problem.damaged("too many code lengths")
        }
        guard lengths[256] > 0 else {
            throw ZeroRunInflater.Problem.damaged("a block without a code for its end")
        }
        try self.init(lengths[..<literalCount], lengths[literalCount...])
    }

    /// Returns what a literal/length symbol stands for: a literal, the end of the block, or a length (RFC 1951,
    /// 3.2.5).
    private static func literalMeaning(_ symbol: Int) -> CodeEntry {
        switch symbol {
        case 0..<256: CodeEntry(kind: .literal, base: symbol)
        case 256: CodeEntry(kind: .end)
        case 257..<265: CodeEntry(kind: .pointer, base: symbol - 254)
        case 265..<285:
            CodeEntry(
                kind: .pointer, extra: (symbol - 261) / 4,
                base: 3 + (4 + (symbol - 261) % 4) << ((symbol - 261) / 4))
        case 285: CodeEntry(kind: .pointer, base: 258)
        default: CodeEntry()
        }
    }

    /// Returns what a distance symbol stands for: a distance of 1 to 32,768 (RFC 1951, 3.2.5).
    private static func distanceMeaning(_ symbol: Int) -> CodeEntry {
        switch symbol {
        case 0..<4: CodeEntry(kind: .pointer, base: symbol + 1)
        case 4..<30:
            CodeEntry(
                kind: .pointer, extra: symbol / 2 - 1,
                base: 1 + (2 + symbol % 2) << (symbol / 2 - 1))
        default: CodeEntry()
        }
    }
}
