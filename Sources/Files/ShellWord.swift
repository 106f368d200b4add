// Quotes words for the shell commands that messages suggest.

/// Returns `text` as one word of a shell command, quoted if necessary, with printable characters only. A shell reads
/// this word as `text`.
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
    // Replaces Unicode scalars, because a quote and a combining mark after it form one `Character`.
    func quoted(_ replacements: [Unicode.Scalar: String]) -> String {
        text.unicodeScalars.map { replacements[$0] ?? String($0) }.joined()
    }
    var isPrintable = true
    // If a character is not printable, the word has the form $'\033', which bash, zsh and POSIX 2024 shells read.
    let word = escapingUnprintable(quoted(["\\": "\\\\", "'": "\\'"])) { scalar in
        isPrintable = false
        return String(scalar).utf8.map { byte in
            let digits = String(byte, radix: 8)
            return "\\" + String(repeating: "0", count: 3 - digits.utf8.count) + digits
        }.joined()
    }
    return isPrintable ? "'" + quoted(["'": "'\\''"]) + "'" : "$'" + word + "'"
}
