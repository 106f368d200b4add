// Huffman codes of DEFLATE (RFC 1951, 3.2.2 and 3.2.7): the optimal code for given symbol frequencies, and the header
// of a block.

/// A prefix code over the symbols 0, 1, …
struct HuffmanCode {
    /// The length of each symbol's code word in bits; 0 for a symbol that does not occur.
    let lengths: [UInt8]
    /// The code word of each symbol in DEFLATE's bit order: the first bit is the lowest bit.
    let codes: [UInt16]

    /// Makes the code with which the output has the fewest bits, if symbol i occurs `frequencies[i]` times. No code
    /// word has more than `limit` bits.
    init(frequencies: [Int], limit: Int) {
        self.init(lengths: HuffmanCode.lengths(frequencies, limit))
    }

    /// Makes the canonical code whose code words have these lengths in bits.
    init(lengths: [UInt8]) {
        self.lengths = lengths
        codes = HuffmanCode.codes(lengths)
    }

    /// Returns code word lengths by the package-merge algorithm (Larmore and Hirschberg 1990). It makes `limit` lists
    /// of packages, sorted by weight. The first list has one package for each of the n symbols that occur. Each later
    /// list has these n packages and the pairs of packages of the previous list. A symbol gets one bit for each time
    /// that it occurs in the first 2n - 2 packages of the last list.
    private static func lengths(_ frequencies: [Int], _ limit: Int) -> [UInt8] {
        struct Package {
            var weight: Int
            var symbols: [Int]
        }
        let single = frequencies.indices.filter { frequencies[$0] > 0 }
            .map { Package(weight: frequencies[$0], symbols: [$0]) }
            .sorted { ($0.weight, $0.symbols[0]) < ($1.weight, $1.symbols[0]) }
        var lengths = [UInt8](repeating: 0, count: frequencies.count)
        guard single.count > 1 else {
            for package in single { lengths[package.symbols[0]] = 1 }
            return lengths
        }
        precondition(single.count <= 1 << limit)
        var list = single
        for _ in 1..<limit {
            let pairs = (0..<list.count / 2).map { i in
                Package(
                    weight: list[2 * i].weight + list[2 * i + 1].weight,
                    symbols: list[2 * i].symbols + list[2 * i + 1].symbols)
            }
            // Of equal weights, the symbol comes before the pair. So equal frequencies always give the same code.
            list = []
            var next = 0
            for symbol in single {
                while next < pairs.count, pairs[next].weight < symbol.weight {
                    list.append(pairs[next])
                    next += 1
                }
                list.append(symbol)
            }
            list += pairs[next...]
        }
        for package in list.prefix(2 * single.count - 2) {
            for symbol in package.symbols { lengths[symbol] += 1 }
        }
        return lengths
    }

    /// Returns the canonical code words. They are assigned in the order of length, then of symbol.
    private static func codes(_ lengths: [UInt8]) -> [UInt16] {
        var codes = [UInt16](repeating: 0, count: lengths.count)
        var next: UInt16 = 0
        for length in 1...15 as ClosedRange<UInt8> {
            for symbol in lengths.indices where lengths[symbol] == length {
                // A canonical code counts up with the first bit as the highest bit. DEFLATE has the first bit lowest.
                codes[symbol] = next.bitReversed >> (16 - UInt16(length))
                next += 1
            }
            next <<= 1
        }
        return codes
    }
}

extension UInt16 {
    fileprivate var bitReversed: UInt16 {
        (0..<16).reduce(0) { $0 << 1 | (self >> UInt16($1) & 1) }
    }
}

/// The header of a DEFLATE block that has its own two codes. It lists the lengths of their code words, compressed
/// with a third code.
struct DynamicBlockHeader {
    /// The order in which the header lists the code word lengths of the third code (RFC 1951, 3.2.7).
    static let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

    /// The fields of the header in the order in which they are written. Each has a value and a number of bits.
    private(set) var fields: [(value: Int, bits: Int)] = []

    /// Makes the header of the last block of a stream: `literals` is the code for literals and lengths.
    init(literals: HuffmanCode, distances: HuffmanCode) {
        let literalLengths = DynamicBlockHeader.trimmed(literals.lengths, least: 257)
        let distanceLengths = DynamicBlockHeader.trimmed(distances.lengths, least: 1)
        let runs = DynamicBlockHeader.runs(literalLengths + distanceLengths)
        var frequencies = [Int](repeating: 0, count: 19)
        for run in runs { frequencies[run.symbol] += 1 }
        let code = HuffmanCode(frequencies: frequencies, limit: 7)
        let order = DynamicBlockHeader.order
        let used = max(4, 1 + (order.lastIndex { code.lengths[$0] > 0 } ?? 0))
        fields = [
            (1, 1), (2, 2),  // BFINAL 1; BTYPE 2, dynamic codes
            (literalLengths.count - 257, 5), (distanceLengths.count - 1, 5), (used - 4, 4),
        ]
        fields += order.prefix(used).map { (Int(code.lengths[$0]), 3) }
        for run in runs {
            fields.append((Int(code.codes[run.symbol]), Int(code.lengths[run.symbol])))
            fields.append((run.extra, run.extraBits))
        }
    }

    private static func trimmed(_ lengths: [UInt8], least: Int) -> [UInt8] {
        Array(lengths.prefix(max(least, 1 + (lengths.lastIndex { $0 > 0 } ?? 0))))
    }

    private struct Run {
        var symbol: Int
        var extra = 0
        var extraBits = 0
    }

    /// Returns `lengths` in DEFLATE's run-length encoding. A symbol of 0…15 is one length. Symbol 16 repeats the
    /// previous length 3 to 6 times. Symbol 17 is a run of 3 to 10 zeros, symbol 18 a run of 11 to 138 zeros.
    private static func runs(_ lengths: [UInt8]) -> [Run] {
        var runs: [Run] = []
        var position = 0
        while position < lengths.count {
            let length = lengths[position]
            var count = lengths[position...].prefix { $0 == length }.count
            position += count
            if length == 0 {
                while count >= 11 {
                    let part = min(count, 138)
                    runs.append(Run(symbol: 18, extra: part - 11, extraBits: 7))
                    count -= part
                }
                if count >= 3 {
                    runs.append(Run(symbol: 17, extra: count - 3, extraBits: 3))
                    count = 0
                }
            } else {
                runs.append(Run(symbol: Int(length)))
                count -= 1
                while count >= 3 {
                    let part = min(count, 6)
                    runs.append(Run(symbol: 16, extra: part - 3, extraBits: 2))
                    count -= part
                }
            }
            runs += Array(repeating: Run(symbol: Int(length)), count: count)
        }
        return runs
    }
}
