// Python's notion of a word, and of valid UTF-8.

/// How many words `str.split()` finds in `text`.
///
/// Separators are those of Python 3: U+0009-000D, 001C-0020, 0085, 00A0, 1680, 2000-200A, 2028, 2029, 202F,
/// 205F, 3000. (001C-001F are not in Unicode's White_Space.)
func wordCount(_ text: String) -> Int {
    var count = 0
    var isInWord = false
    for scalar in text.unicodeScalars {
        let separates =
            switch scalar.value {
            case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029,
                0x202F, 0x205F, 0x3000:
                true
            default: false
            }
        if !separates, !isInWord { count += 1 }
        isInWord = !separates
    }
    return count
}

/// The offset of the first byte that does not belong to valid UTF-8; nil where all is valid.
func firstInvalidUTF8(_ bytes: UnsafeBufferPointer<UInt8>) -> Int? {
    // Most text is ASCII: eight bytes at a time first.
    var offset = 0
    let raw = UnsafeRawBufferPointer(bytes)
    while offset + 8 <= raw.count,
        raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self) & 0x8080_8080_8080_8080 == 0
    {
        offset += 8
    }
    let rest = UnsafeBufferPointer(rebasing: bytes[offset...])
    do {
        _ = try UTF8Span(validating: rest.span)
        return nil
    } catch {
        return offset + error.byteOffsets.lowerBound
    }
}
