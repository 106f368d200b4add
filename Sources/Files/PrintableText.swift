// Makes text from files, users and servers safe to print, for example names of authors, files and tensors. All output
// of the program passes through these functions, line by line.

/// Returns `text` on one line without unsafe characters. Unsafe are control characters, line breaks, invisible
/// characters and characters that change the direction of writing. They become Python's escapes: `\n`, `\x1b`,
/// `\u202e`, `\U000e0041`. A backslash stays, so that a second call changes nothing.
public func printable(_ text: String) -> String {
    escapingUnprintable(text, pythonEscape)
}

/// Returns JSON text in which JSON escapes replace the characters that `printable` would escape. The JSON's value and
/// the line breaks between its elements stay the same.
public func printableJSON(_ utf8: [UInt8]) -> [UInt8] {
    // Strings in valid JSON have no raw characters below U+0020, so only bytes from 0x7F on can need an escape.
    guard utf8.contains(where: { $0 >= 0x7F }) else { return utf8 }
    return Array(
        escapingUnprintable(String(decoding: utf8, as: UTF8.self)) { scalar in
            scalar.value < 0x20
                ? String(scalar)
                : String(scalar).utf16.map { "\\u" + hexadecimal(UInt32($0), digits: 4) }.joined()
        }.utf8)
}

/// Returns `text` with each character that `printable` escapes replaced by the result of `escape`.
public func escapingUnprintable(_ text: String, _ escape: (Unicode.Scalar) -> String) -> String {
    guard text.utf8.contains(where: { !(0x20..<0x7F).contains($0) }) else { return text }
    let scalars = Array(text.unicodeScalars)
    var out: [UInt8] = []
    out.reserveCapacity(text.utf8.count)
    // The previous scalar. Nil if an escape has replaced it.
    var previous: Unicode.Scalar?
    for (i, scalar) in scalars.enumerated() {
        let next = i + 1 < scalars.count ? scalars[i + 1] : nil
        if isPrintable(scalar, after: previous, before: next) {
            out.append(contentsOf: UTF8.encode(scalar)!)
            previous = scalar
        } else {
            out.append(contentsOf: escape(scalar).utf8)
            previous = nil
        }
    }
    return String(decoding: out, as: UTF8.self)
}

private func pythonEscape(_ scalar: Unicode.Scalar) -> String {
    switch scalar {
    case "\n": "\\n"
    case "\r": "\\r"
    case "\t": "\\t"
    case _ where scalar.value < 0x100: "\\x" + hexadecimal(scalar.value, digits: 2)
    case _ where scalar.value < 0x10000: "\\u" + hexadecimal(scalar.value, digits: 4)
    default: "\\U" + hexadecimal(scalar.value, digits: 8)
    }
}

private func hexadecimal(_ value: UInt32, digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
}

// MARK: Which characters

/// Returns whether `scalar` is printed without an escape. `previous` and `next` are the scalars beside it. `previous`
/// is nil at the start of the text or after an escape.
private func isPrintable(
    _ scalar: Unicode.Scalar, after previous: Unicode.Scalar?, before next: Unicode.Scalar?
) -> Bool {
    let value = scalar.value
    if value < 0x7F { return value >= 0x20 }
    switch scalar {
    // Joiners and variation selectors are invisible. They are kept only where they change the shape of visible
    // characters.
    case "\u{200C}": return joins(previous, next)
    case "\u{200D}": return joins(previous, next) || isEmojiSequence(previous, next)
    case "\u{FE00}"..."\u{FE0F}", "\u{E0100}"..."\u{E01EF}":
        guard let previous, !previous.properties.isVariationSelector else { return false }
        // An ASCII character with a variation selector is valid only as a part of a keycap emoji: 1️⃣.
        return !previous.isASCII || previous.properties.isEmoji && next == "\u{20E3}"
    default: break
    }
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: return false
    // Default-ignorable code points are invisible fillers, or code points that Unicode reserves for fillers.
    default: return !scalar.properties.isDefaultIgnorableCodePoint
    }
}

/// Returns whether a joiner between `previous` and `next` can change their shape (RFC 5892, A.1 and A.2, simplified):
/// 1. Between two letters of a script whose letters join, as in many Persian names.
/// 2. After a virama of an Indic script, even at the end of a word.
private func joins(_ previous: Unicode.Scalar?, _ next: Unicode.Scalar?) -> Bool {
    guard let previous else { return false }
    if previous.properties.canonicalCombiningClass == .virama { return true }
    guard let next else { return false }
    return isInJoiningScript(previous) && isInJoiningScript(next)
}

/// Returns whether `scalar` is a letter or mark of a script whose letters join. The numbers are the blocks from
/// Arabic to Sinhala, Myanmar, Khmer, Mongolian, and related blocks that Unicode added later.
private func isInJoiningScript(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x600..<0xE00, 0x1000..<0x10A0, 0x1780..<0x18B0, 0xA840..<0xA880, 0xFB50..<0xFE00,
        0xFE70..<0xFEFF, 0x10A00..<0x12000, 0x1E900..<0x1E960:
        switch scalar.properties.generalCategory {
        case .otherLetter, .modifierLetter, .uppercaseLetter, .lowercaseLetter, .nonspacingMark,
            .spacingMark:
            return !scalar.properties.isDefaultIgnorableCodePoint
        default: return false
        }
    default: return false
    }
}

/// Returns whether a joiner combines `previous` and `next` into one emoji: 👩‍🚒, 🏳️‍🌈.
private func isEmojiSequence(_ previous: Unicode.Scalar?, _ next: Unicode.Scalar?) -> Bool {
    func isPicture(_ scalar: Unicode.Scalar) -> Bool {
        !scalar.isASCII && scalar.properties.isEmoji
    }
    guard let previous, let next else { return false }
    return (isPicture(previous) || previous == "\u{FE0F}") && isPicture(next)
}
