// Computes the CRC-32 (ISO 3309) of words that are nearly all zero, without a step for each zero word.
//
// A word w changes the CRC register from R to A(R ^ w), where A is the step over four zero bytes. So n zero words
// change it from R to A^n(R). A is linear over GF(2), so tables can apply each power of A. The code writes n in base
// 16 and applies one power of A for each nonzero digit.

/// Computes the CRC-32 of 32-bit little-endian words. The caller appends the words in order.
struct SparseCRC32 {
    private var register: UInt32
    /// The number of steps A that are still to be applied to `register`.
    private var steps = 0
    private let operators = ZeroOperators.shared

    /// Continues from `crc`, the checksum of the preceding bytes.
    init(from crc: UInt32) {
        register = ~crc
    }

    /// Appends `zeros` zero words, then the word `bits`.
    mutating func append(_ bits: UInt32, after zeros: Int) {
        register = operators.apply(steps + zeros, to: register) ^ bits
        steps = 1
    }

    /// Returns the checksum of all appended words and `zeros` more zero words.
    func value(after zeros: Int) -> UInt32 {
        ~operators.apply(steps + zeros, to: register)
    }
}

/// The operators A^(v·16^d) for v = 1…15 and d = 0…9. Each operator is four tables of 256 numbers, one for each byte
/// of the register.
private struct ZeroOperators: Sendable {
    static let shared = ZeroOperators()

    private static let digits = 10
    private static let size = 4 * 256
    private nonisolated(unsafe) let tables: UnsafeMutablePointer<UInt32>

    private init() {
        let (digits, size) = (ZeroOperators.digits, ZeroOperators.size)
        tables = .allocate(capacity: digits * 16 * size)
        func apply(_ table: Int, _ x: UInt32) -> UInt32 {
            ZeroOperators.apply(tables + table * size, to: x)
        }
        for digit in 0..<digits {
            for entry in 0..<size {
                let x = UInt32(entry & 255) << (8 * UInt32(entry >> 8))
                let first = digit * 16 + 1
                tables[first * size + entry] =
                    digit == 0
                    ? ZeroOperators.overZeroWord(x)
                    : apply((digit - 1) * 16 + 1, tables[((digit - 1) * 16 + 15) * size + entry])
            }
            for value in 2..<16 {
                let table = digit * 16 + value
                for entry in 0..<size {
                    tables[table * size + entry] = apply(
                        digit * 16 + 1, tables[(table - 1) * size + entry])
                }
            }
        }
    }

    /// Applies A to `x` bit by bit, with the reflected polynomial of ISO 3309.
    private static func overZeroWord(_ x: UInt32) -> UInt32 {
        (0..<32).reduce(x) { x, _ in x >> 1 ^ (x & 1 == 1 ? 0xEDB8_8320 : 0) }
    }

    @inline(__always)
    private static func apply(_ table: UnsafePointer<UInt32>, to x: UInt32) -> UInt32 {
        table[Int(x & 255)] ^ table[256 + Int(x >> 8 & 255)] ^ table[512 + Int(x >> 16 & 255)]
            ^ table[768 + Int(x >> 24)]
    }

    /// Returns A^`steps` applied to `x`.
    @inline(__always)
    func apply(_ steps: Int, to x: UInt32) -> UInt32 {
        precondition(steps >> (4 * ZeroOperators.digits) == 0)
        var (x, rest, table) = (x, steps, tables)
        while rest != 0 {
            if rest & 15 != 0 {
                x = ZeroOperators.apply(table + (rest & 15) * ZeroOperators.size, to: x)
            }
            rest >>= 4
            table += 16 * ZeroOperators.size
        }
        return x
    }
}
