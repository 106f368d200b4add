// What strangers wrote, as a terminal, a log and a shell may have it: names of authors, files and tensors, texts,
// answers of servers. All that is printed passes through here, line by line.

/// `text` in one line in which nothing is a command to a terminal, breaks the line, changes the direction of writing, or
/// cannot be seen. Characters that do are written as Python writes them in a string: `\n`, `\x1b`, `\u202e`, `\U000e0041`.
/// All others stay, letters that are written from right to left and combining marks too. A backslash stays as it is, so
/// that what has been through here does not change the next time.
public func printable(_ text: String) -> String {
    escapingUnprintable(text, pythonEscape)
}

/// The same of JSON text: the characters are written as JSON's escapes, so that it stays the same JSON. Line breaks between
/// its elements stay.
public func printableJSON(_ utf8: [UInt8]) -> [UInt8] {
    // JSON has none below U+0020 in its strings.
    guard utf8.contains(where: { $0 >= 0x7F }) else { return utf8 }
    return Array(
        escapingUnprintable(String(decoding: utf8, as: UTF8.self)) { scalar in
            scalar.value < 0x20
                ? String(scalar)
                : String(scalar).utf16.map { "\\u" + hexadecimal(UInt32($0), digits: 4) }.joined()
        }.utf8)
}

/// `text` with what `escape` makes of each character that `printable` would not leave.
public func escapingUnprintable(_ text: String, _ escape: (Unicode.Scalar) -> String) -> String {
    guard text.utf8.contains(where: { !(0x20..<0x7F).contains($0) }) else { return text }
    let scalars = Array(text.unicodeScalars)
    var out: [UInt8] = []
    out.reserveCapacity(text.utf8.count)
    // The one before, where it stays.
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

/// Whether `scalar` stays between `previous`, if that stays, and `next`.
private func isPrintable(
    _ scalar: Unicode.Scalar, after previous: Unicode.Scalar?, before next: Unicode.Scalar?
) -> Bool {
    let value = scalar.value
    if value < 0x7F { return value >= 0x20 }
    switch scalar {
    // Joiners and variation selectors cannot be seen themselves: they stay where they shape what can.
    case "\u{200C}": return joins(previous, next)
    case "\u{200D}": return joins(previous, next) || isEmojiSequence(previous, next)
    case "\u{FE00}"..."\u{FE0F}", "\u{E0100}"..."\u{E01EF}":
        guard let previous, !previous.properties.isVariationSelector else { return false }
        // Of ASCII, digits of keycaps alone have them: 1️⃣.
        return !previous.isASCII || previous.properties.isEmoji && next == "\u{20E3}"
    default: break
    }
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: return false
    // Fillers, and what Unicode keeps for more of them.
    default: return !scalar.properties.isDefaultIgnorableCodePoint
    }
}

/// Whether a joiner between `previous` and `next` shapes them: it does within words of scripts whose letters join (Persian
/// has many in its names), and after a virama of Indic ones, at the end of a word too (RFC 5892, A.1 and A.2, in short).
private func joins(_ previous: Unicode.Scalar?, _ next: Unicode.Scalar?) -> Bool {
    guard let previous else { return false }
    if previous.properties.canonicalCombiningClass == .virama { return true }
    guard let next else { return false }
    return isInJoiningScript(previous) && isInJoiningScript(next)
}

/// Letters and marks of Arabic to Sinhala, Myanmar, Khmer and Mongolian, and forms and scripts of their kind that came later.
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

/// Whether a joiner makes one picture of `previous` and `next`: 👩‍🚒, 🏳️‍🌈.
private func isEmojiSequence(_ previous: Unicode.Scalar?, _ next: Unicode.Scalar?) -> Bool {
    func isPicture(_ scalar: Unicode.Scalar) -> Bool {
        !scalar.isASCII && scalar.properties.isEmoji
    }
    guard let previous, let next else { return false }
    return (isPicture(previous) || previous == "\u{FE0F}") && isPicture(next)
}
