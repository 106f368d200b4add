// The header of NumPy's .npy format, versions 1.0 to 3.0.
// Format: numpy/lib/format.py ("Format Version 1.0" and following).

import Glibc

/// The content of a `.npy` header.
public struct NPYHeader: Equatable, Sendable {
    /// NumPy's type string, such as `<f4` or `|O`. For a structured array, the list of its fields as the file has it.
    public var descr: String
    /// Whether the first index varies fastest (column-major, Fortran order).
    public var isFortranOrder: Bool
    /// Sizes of the dimensions, outermost first; empty for a scalar.
    public var shape: [Int]

    /// Makes a header, in C order by default.
    public init(descr: String, isFortranOrder: Bool = false, shape: [Int]) {
        self.descr = descr
        self.isFortranOrder = isFortranOrder
        self.shape = shape
    }

    /// The header as NumPy writes it: version 1.0, padded with spaces to a multiple of 64 bytes.
    public var encoded: [UInt8] {
        let sizes =
            shape.count == 1 ? "\(shape[0])," : shape.map(String.init).joined(separator: ", ")
        let order = isFortranOrder ? "True" : "False"
        var text = Array(
            "{'descr': '\(descr)', 'fortran_order': \(order), 'shape': (\(sizes)), }".utf8)
        let padding = (64 - (10 + text.count + 1) % 64) % 64
        text += Array(repeating: 0x20, count: padding) + [0x0A]
        return [0x93] + Array("NUMPY".utf8)
            + [1, 0, UInt8(text.count & 0xFF), UInt8(text.count >> 8)] + text
    }

    /// The longest header that is read, in bytes. NumPy reads up to 10,000 bytes unless the caller trusts the file.
    static let longest = 1 << 16
    /// The most dimensions of an array, as in NumPy 2.
    fileprivate static let mostDimensions = 64

    /// Reads the header at the start of `bytes`. The data begins at byte `length`. Throws `NPYHeaderProblem`.
    static func read(
        _ bytes: UnsafeRawBufferPointer
    ) throws(NPYHeaderProblem) -> (header: NPYHeader, length: Int) {
        guard bytes.count >= 10, bytes.starts(with: [0x93] + Array("NUMPY".utf8)) else {
            throw NPYHeaderProblem("does not begin as a .npy array does")
        }
        let wide = bytes[6] >= 2
        guard (1...3).contains(bytes[6]) else {
            throw NPYHeaderProblem("has .npy version \(bytes[6]), expected 1, 2 or 3")
        }
        let start = wide ? 12 : 10
        guard bytes.count >= start else {
            throw NPYHeaderProblem("is cut short within its header")
        }
        let count =
            wide
            ? Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)))
            : Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt16.self)))
        guard count <= longest else {
            throw NPYHeaderProblem("has a header of \(count) bytes, more than \(longest)")
        }
        guard count <= bytes.count - start else {
            throw NPYHeaderProblem("is cut short within its header")
        }
        var parser = HeaderParser(bytes: Array(bytes[start..<start + count]))
        return (try parser.parse(), start + count)
    }
}

/// The problem with the header of an array, as a phrase that follows the name of the array.
struct NPYHeaderProblem: Error {
    let reason: String

    init(_ reason: String) {
        self.reason = reason
    }
}

/// Parses the text of the header: a Python dictionary literal as NumPy writes it. Refuses any other Python syntax.
private struct HeaderParser {
    let bytes: [UInt8]
    var position = 0

    init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    mutating func parse() throws(NPYHeaderProblem) -> NPYHeader {
        var descr: String?
        var order: Bool?
        var shape: [Int]?
        try expect("{")
        while !take("}") {
            let key = try string()
            try expect(":")
            switch key {
            case "descr":
                descr = peek() == UInt8(ascii: "[") ? try list() : try string()
            case "fortran_order": order = try bool()
            case "shape": shape = try tuple()
            default: throw NPYHeaderProblem("has an unknown header key '\(key)'")
            }
            if !take(",") {
                try expect("}")
                break
            }
        }
        guard let descr, let order, let shape else {
            throw NPYHeaderProblem("has a header without descr, fortran_order or shape")
        }
        return NPYHeader(descr: descr, isFortranOrder: order, shape: shape)
    }

    private mutating func peek() -> UInt8? {
        while position < bytes.count, [0x20, 0x0A, 0x0D, 0x09].contains(bytes[position]) {
            position += 1
        }
        return position < bytes.count ? bytes[position] : nil
    }

    private mutating func take(_ text: StaticString) -> Bool {
        _ = peek()
        let wanted = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        guard bytes[position...].starts(with: wanted) else { return false }
        position += wanted.count
        return true
    }

    private mutating func expect(_ text: StaticString) throws(NPYHeaderProblem) {
        guard take(text) else {
            throw NPYHeaderProblem("has a header that is not NumPy's ('\(text)' is missing)")
        }
    }

    private mutating func string() throws(NPYHeaderProblem) -> String {
        guard let quote = peek(), quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"") else {
            throw NPYHeaderProblem("has a header that is not NumPy's (a string is missing)")
        }
        position += 1
        let start = position
        while position < bytes.count, bytes[position] != quote { position += 1 }
        guard position < bytes.count else {
            throw NPYHeaderProblem("has a header with a string that does not end")
        }
        position += 1
        return String(decoding: bytes[start..<position - 1], as: UTF8.self)
    }

    /// Reads a list, including nested lists, and returns its text unchanged.
    private mutating func list() throws(NPYHeaderProblem) -> String {
        let start = position
        var depth = 0
        while let byte = peek() {
            switch byte {
            case UInt8(ascii: "'"), UInt8(ascii: "\""):
                _ = try string()
                continue
            case UInt8(ascii: "["), UInt8(ascii: "("): depth += 1
            case UInt8(ascii: "]"), UInt8(ascii: ")"): depth -= 1
            default: break
            }
            position += 1
            if depth == 0 { return String(decoding: bytes[start..<position], as: UTF8.self) }
        }
        throw NPYHeaderProblem("has a header with a list that does not end")
    }

    private mutating func bool() throws(NPYHeaderProblem) -> Bool {
        if take("True") { return true }
        try expect("False")
        return false
    }

    private mutating func tuple() throws(NPYHeaderProblem) -> [Int] {
        var sizes: [Int] = []
        try expect("(")
        while !take(")") {
            _ = peek()
            let start = position
            while position < bytes.count, bytes[position] == UInt8(ascii: "-") || isDigit {
                position += 1
            }
            let text = String(decoding: bytes[start..<position], as: UTF8.self)
            guard let size = Int(text) else {
                throw NPYHeaderProblem("has a shape that is not a tuple of whole numbers")
            }
            guard size >= 0 else {
                throw NPYHeaderProblem("has a negative size \(size) in its shape")
            }
            guard sizes.count < NPYHeader.mostDimensions else {
                throw NPYHeaderProblem(
                    "has a shape of more than \(NPYHeader.mostDimensions) dimensions")
            }
            sizes.append(size)
            if !take(",") {
                try expect(")")
                break
            }
        }
        return sizes
    }

    private var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position]) }
}
