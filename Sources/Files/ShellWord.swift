// Words for the commands that messages suggest.

/// Returns `text` as one word of a shell command. The word is printable and keeps its meaning when it is printed and copied.
public func shellWord(_ text: String) -> String {
    let isPlain = text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "_.,:=/@%+-".utf8.contains(byte)
        }
    }
    if isPlain, !text.isEmpty { return text }
    // By scalars: a quote and a combining mark after it are one `Character`.
    func quoted(_ replacements: [Unicode.Scalar: String]) -> String {
        text.unicodeScalars.map { replacements[$0] ?? String($0) }.joined()
    }
    var isPrintable = true
    // The quoting that ls uses for names; bash, zsh and POSIX 2024 read $'\033' this way.
    let word = escapingUnprintable(quoted(["\\": "\\\\", "'": "\\'"])) { scalar in
        isPrintable = false
        return String(scalar).utf8.map { byte in
            let digits = String(byte, radix: 8)
            return "\\" + String(repeating: "0", count: 3 - digits.utf8.count) + digits
        }.joined()
    }
    return isPrintable ? "'" + quoted(["'": "'\\''"]) + "'" : "$'" + word + "'"
}
