// Counts words as Python does, and finds invalid UTF-8.

/// Returns the number of words that Python's `str.split()` finds in `text`.
///
/// Words are separated by the characters that Python 3 takes for white space: U+0009-000D, 001C-0020, 0085, 00A0,
/// 1680, 2000-200A, 2028, 2029, 202F, 205F, 3000. Unicode's property White_Space does not include 001C-001F.
func wordCount(_ text: String) -> Int {
    var text = text
    return text.withUTF8 { wordCount($0) }
}

private func wordCount(_ text: UnsafeBufferPointer<UInt8>) -> Int {
    // Bit i is 1 if ASCII character i is a separator. No ASCII character above 63 is a separator.
    let separators: UInt64 = 0x1F << 0x1C | 0x1F << 0x09
    var count = 0
    var isBehindSeparator: UInt64 = 1
    var position = 0
    while position < text.count {
        let byte = text[position]
        position += 1
        let separates: UInt64
        if byte < 0x80 {
            // The expression has no branch, because the processor could not predict where words end.
            separates = (byte < 64 ? separators : 0) &>> UInt64(byte) & 1
        } else {
            let length = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4
            var scalar = UInt32(byte) & (0x7F >> UInt32(length))
            for _ in 1..<length {
                scalar = scalar << 6 | UInt32(text[position] & 0x3F)
                position += 1
            }
            switch scalar {
            case 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000:
                separates = 1
            default: separates = 0
            }
        }
        count &+= Int(isBehindSeparator & ~separates)
        isBehindSeparator = separates
    }
    return count
}

/// Returns the offset of the first byte that is not part of valid UTF-8; nil if all bytes are valid.
func firstInvalidUTF8(_ bytes: UnsafeBufferPointer<UInt8>) -> Int? {
    // Skips the ASCII bytes at the front eight at a time, because most text is ASCII.
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
