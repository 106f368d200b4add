// A pull parser for JSON in UTF-8. It accepts the same texts as Python's `json`: RFC 8259, NaN and Infinity.
// Foundation's decoders are not used, because they merge canonically equivalent keys, refuse NaN, and silently
// replace lone surrogates.

/// The error for a text that is not JSON: the offset and the reason.
public struct JSONSyntaxError: Error, Equatable, CustomStringConvertible {
    /// Byte offset of the invalid byte in the scanned text.
    public let offset: Int
    /// What was found or what is missing.
    public let reason: String

    /// The reason and the offset: "reason (at byte N)".
    public var description: String { "\(reason) (at byte \(offset))" }
}

/// Reads JSON values one after the other from bytes. The bytes must exist as long as the scanner is used.
public struct JSONScanner {
    /// The maximum nesting of arrays and objects. Deeper nesting is an error, because it could overflow the stack.
    public static let maximumDepth = 256

    private let bytes: UnsafeBufferPointer<UInt8>
    /// Offset of the next unread byte.
    public private(set) var position = 0

    /// Starts at the first byte of `bytes`.
    public init(_ bytes: UnsafeBufferPointer<UInt8>) {
        self.bytes = bytes
    }

    // MARK: Structure

    /// Skips white space and returns the next byte without taking it. Nil at the end of the text.
    public mutating func peek() -> UInt8? {
        skipWhitespace()
        return current
    }

    /// Returns whether only white space is left.
    public mutating func atEnd() -> Bool {
        peek() == nil
    }

    /// Skips white space and takes `byte`. Throws `JSONSyntaxError` if another byte or the end of the text comes
    /// next.
    public mutating func expect(_ byte: UInt8) throws(JSONSyntaxError) {
        guard peek() == byte else {
            throw unexpected("'\(Character(UnicodeScalar(byte)))'")
        }
        position += 1
    }

    /// Skips white space and takes `byte` if it comes next. Returns whether `byte` was taken.
    public mutating func take(_ byte: UInt8) -> Bool {
        guard peek() == byte else { return false }
        position += 1
        return true
    }

    /// Throws `JSONSyntaxError` unless only white space is left.
    public mutating func expectEnd() throws(JSONSyntaxError) {
        guard atEnd() else { throw unexpected("the end of the text") }
    }

    /// Reads the object at the current position. For each member, calls `member` with the bytes of the key, and
    /// `member` must read the value.
    public mutating func readObject(
        _ member: (_ key: borrowing [UInt8], _ scanner: inout JSONScanner) throws(JSONSyntaxError)
            -> Void
    ) throws(JSONSyntaxError) {
        try expect(UInt8(ascii: "{"))
        if take(UInt8(ascii: "}")) { return }
        var key: [UInt8] = []
        repeat {
            guard peek() == UInt8(ascii: "\"") else { throw unexpected("a key in quotes") }
            try readString(into: &key)
            try expect(UInt8(ascii: ":"))
            try member(key, &self)
        } while take(UInt8(ascii: ","))
        try expect(UInt8(ascii: "}"))
    }

    /// Reads the array at the current position. For each element, calls `element`, which must read the element.
    public mutating func readArray(
        _ element: (_ scanner: inout JSONScanner) throws(JSONSyntaxError) -> Void
    ) throws(JSONSyntaxError) {
        try expect(UInt8(ascii: "["))
        if take(UInt8(ascii: "]")) { return }
        repeat { try element(&self) } while take(UInt8(ascii: ","))
        try expect(UInt8(ascii: "]"))
    }

    // MARK: Strings

    /// Reads a string into `out` as UTF-8 bytes, in place of the bytes in `out`. An escaped lone surrogate becomes
    /// three bytes that are not valid UTF-8, so that the caller can find it by validation.
    public mutating func readString(into out: inout [UInt8]) throws(JSONSyntaxError) {
        out.removeAll(keepingCapacity: true)
        try expect(UInt8(ascii: "\""))
        while true {
            let start = position
            passPlain()
            out.append(contentsOf: UnsafeBufferPointer(rebasing: bytes[start..<position]))
            guard let byte = current else { throw failure("a string does not end") }
            switch byte {
            case UInt8(ascii: "\""):
                position += 1
                return
            case UInt8(ascii: "\\"):
                position += 1
                try readEscape(into: &out)
            default:
                throw failure("a raw control character \(hex(byte)) in a string")
            }
        }
    }

    /// Skips bytes of a string that need no decoding, eight at a time.
    @inline(__always)
    private mutating func passPlain() {
        let raw = UnsafeRawBufferPointer(bytes)
        let (ones, highs): (UInt64, UInt64) = (0x0101_0101_0101_0101, 0x8080_8080_8080_8080)
        // Returns 0 if no byte of `word` is zero, otherwise a nonzero word.
        func zeros(_ word: UInt64) -> UInt64 { (word &- ones) & ~word & highs }
        while position + 8 <= raw.count {
            let word = raw.loadUnaligned(fromByteOffset: position, as: UInt64.self)
            let quotes = zeros(word ^ (ones &* UInt64(UInt8(ascii: "\""))))
            let backslashes = zeros(word ^ (ones &* UInt64(UInt8(ascii: "\\"))))
            // A control character is below 0x20: none of its upper three bits is set.
            let controls = zeros(word & (ones &* 0xE0))
            if quotes | backslashes | controls != 0 { break }
            position += 8
        }
        while position < bytes.count, JSONScanner.isPlain(bytes[position]) { position += 1 }
    }

    /// Returns whether a byte of a string needs no decoding.
    @inline(__always)
    private static func isPlain(_ byte: UInt8) -> Bool {
        byte >= 0x20 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\")
    }

    private mutating func readEscape(into out: inout [UInt8]) throws(JSONSyntaxError) {
        guard let byte = current else { throw failure("a string does not end") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(byte)
        case UInt8(ascii: "n"): out.append(0x0A)
        case UInt8(ascii: "t"): out.append(0x09)
        case UInt8(ascii: "r"): out.append(0x0D)
        case UInt8(ascii: "b"): out.append(0x08)
        case UInt8(ascii: "f"): out.append(0x0C)
        case UInt8(ascii: "u"):
            var scalar = try readHex4()
            if (0xD800..<0xDC00).contains(scalar), position + 1 < bytes.count,
                bytes[position] == UInt8(ascii: "\\"), bytes[position + 1] == UInt8(ascii: "u")
            {
                let before = position
                position += 2
                let low = try readHex4()
                if (0xDC00..<0xE000).contains(low) {
                    scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
                } else {
                    position = before  // the second escape is a separate character
                }
            }
            appendUTF8(scalar, to: &out)
        default:
            position -= 1
            throw failure("an unknown escape sequence in a string")
        }
    }

    private mutating func readHex4() throws(JSONSyntaxError) -> UInt32 {
        guard position + 4 <= bytes.count else { throw failure("a \\u escape is cut short") }
        var value: UInt32 = 0
        for _ in 0..<4 {
            let byte = bytes[position]
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: throw failure("a \\u escape without four hex digits")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }

    // MARK: Other values

    /// Skips one value of any kind and checks its syntax.
    public mutating func skipValue() throws(JSONSyntaxError) {
        var openers: [UInt8] = []  // "[" or "{" of each enclosing container
        while true {
            guard let byte = peek() else { throw failure("a value is missing") }
            switch byte {
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                position += 1
                guard openers.count < JSONScanner.maximumDepth else { throw tooDeep() }
                if take(byte + 2) { break }  // "]" and "}" are two code points after their openers
                openers.append(byte)
                if byte == UInt8(ascii: "{") { try skipKey() }
                continue
            case UInt8(ascii: "\""): try skipString()
            default: try skipScalar()
            }
            // A value is complete. Closes the containers that end with it.
            while let opener = openers.last {
                if take(UInt8(ascii: ",")) {
                    if opener == UInt8(ascii: "{") { try skipKey() }
                    break
                }
                try expect(opener + 2)
                openers.removeLast()
            }
            if openers.isEmpty { return }
        }
    }

    private mutating func skipKey() throws(JSONSyntaxError) {
        guard peek() == UInt8(ascii: "\"") else { throw unexpected("a key in quotes") }
        try skipString()
        try expect(UInt8(ascii: ":"))
    }

    private mutating func skipString() throws(JSONSyntaxError) {
        position += 1
        var escaped: [UInt8] = []
        while true {
            passPlain()
            guard let byte = current else { throw failure("a string does not end") }
            position += 1
            if byte == UInt8(ascii: "\"") { return }
            guard byte == UInt8(ascii: "\\") else {
                position -= 1
                throw failure("a raw control character \(hex(byte)) in a string")
            }
            try readEscape(into: &escaped)
            escaped.removeAll(keepingCapacity: true)
        }
    }

    private mutating func skipScalar() throws(JSONSyntaxError) {
        _ = try readScalar()
    }

    /// Reads a number, `true`, `false`, `null`, `NaN`, `Infinity` or `-Infinity`.
    public mutating func readScalar() throws(JSONSyntaxError) -> JSONValue {
        for (word, value) in JSONScanner.words where takeWord(word) { return value }
        return try readNumber()
    }

    private static let words: [(StaticString, JSONValue)] = [
        ("true", .bool(true)), ("false", .bool(false)), ("null", .null),
        ("NaN", .number(.nan)), ("Infinity", .number(.infinity)),
        ("-Infinity", .number(-.infinity)),
    ]

    private mutating func takeWord(_ word: StaticString) -> Bool {
        skipWhitespace()
        let count = word.utf8CodeUnitCount
        guard position + count <= bytes.count else { return false }
        for i in 0..<count where bytes[position + i] != word.utf8Start[i] { return false }
        position += count
        return true
    }

    private mutating func readNumber() throws(JSONSyntaxError) -> JSONValue {
        skipWhitespace()
        let start = position
        if current == UInt8(ascii: "-") { position += 1 }
        let digits = position
        skipDigits()
        guard position > digits else {
            position = start
            throw unexpected("a value")
        }
        if bytes[digits] == UInt8(ascii: "0"), position > digits + 1 {
            position = digits
            throw failure("a number with a leading zero")
        }
        var whole = true
        if current == UInt8(ascii: ".") {
            whole = false
            position += 1
            try expectDigits()
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            whole = false
            position += 1
            if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
            try expectDigits()
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if whole, let integer = Int(text) { return .integer(integer) }
        guard let number = Double(text) else { throw failure("a number that cannot be read") }
        return .number(number)
    }

    private mutating func skipDigits() {
        while let byte = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
            position += 1
        }
    }

    private mutating func expectDigits() throws(JSONSyntaxError) {
        let start = position
        skipDigits()
        guard position > start else { throw unexpected("a digit") }
    }

    // MARK: Bytes

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipWhitespace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x0A, 0x0D, 0x09: position += 1
            default: return
            }
        }
    }

    // MARK: Errors

    /// Makes an error for the current position.
    public func failure(_ reason: String) -> JSONSyntaxError {
        JSONSyntaxError(offset: position, reason: reason)
    }

    func tooDeep() -> JSONSyntaxError {
        failure("nested deeper than \(JSONScanner.maximumDepth) levels")
    }

    private mutating func unexpected(_ wanted: String) -> JSONSyntaxError {
        guard let byte = peek() else { return failure("the text ends, expected \(wanted)") }
        let found =
            (0x21..<0x7F).contains(byte)
            ? "'\(Character(UnicodeScalar(byte)))'" : "byte \(hex(byte))"
        return failure("found \(found), expected \(wanted)")
    }
}

private func hex(_ byte: UInt8) -> String {
    "0x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
}

/// Appends a code point in UTF-8's bit layout, even if it is a surrogate.
private func appendUTF8(_ scalar: UInt32, to out: inout [UInt8]) {
    func tail(_ shift: UInt32) -> UInt8 { UInt8(0x80 | scalar >> shift & 0x3F) }
    switch scalar {
    case 0..<0x80: out.append(UInt8(scalar))
    case 0..<0x800: out += [UInt8(0xC0 | scalar >> 6), tail(0)]
    case 0..<0x10000: out += [UInt8(0xE0 | scalar >> 12), tail(6), tail(0)]
    default: out += [UInt8(0xF0 | scalar >> 18), tail(12), tail(6), tail(0)]
    }
}
