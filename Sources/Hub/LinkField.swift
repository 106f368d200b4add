// Parses the header `Link` of a response (RFC 8288). Reads each byte only once, because a hostile server may send a
// very long header.

/// Returns the URL of the first link `<URL>; rel="next"` in `field`, the value of a header `Link`; nil if none.
func nextLink(_ field: String) -> String? {
    var reader = LinkReader(bytes: Array(field.utf8))
    while let link = reader.next() {
        if link.relations.contains("next") { return link.target }
    }
    return nil
}

/// Parses the links of a `Link` header, one after the other.
private struct LinkReader {
    let bytes: [UInt8]
    var position = 0

    /// Parses the next link. Nil at the end of the header, or if the next text is not a link.
    mutating func next() -> (target: String, relations: [Substring])? {
        skip { [UInt8(ascii: ","), 0x20, 0x09].contains($0) }
        guard take(UInt8(ascii: "<")) else { return nil }
        let start = position
        skip { $0 != UInt8(ascii: ">") }
        let target = String(decoding: bytes[start..<position], as: UTF8.self)
        guard take(UInt8(ascii: ">")) else { return nil }
        var relations: String?
        skipSpace()
        while take(UInt8(ascii: ";")) {
            skipSpace()
            let name = word()
            skipSpace()
            var value = ""
            if take(UInt8(ascii: "=")) {
                skipSpace()
                value = take(UInt8(ascii: "\"")) ? quoted() : word()
                skipSpace()
            }
            // Only the first parameter `rel` counts.
            if name.lowercased() == "rel" { relations = relations ?? value.lowercased() }
        }
        skip { $0 != UInt8(ascii: ",") }
        return (target, relations?.split(separator: " ") ?? [])
    }

    private mutating func skip(while isMeant: (UInt8) -> Bool) {
        while position < bytes.count, isMeant(bytes[position]) { position += 1 }
    }

    private mutating func skipSpace() { skip { $0 == 0x20 || $0 == 0x09 } }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    private mutating func word() -> String {
        let start = position
        skip { !"=;, \t".utf8.contains($0) }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    /// Reads a quoted string up to its closing quotation mark. Returns its text with escapes resolved.
    private mutating func quoted() -> String {
        var text: [UInt8] = []
        while position < bytes.count, bytes[position] != UInt8(ascii: "\"") {
            if bytes[position] == UInt8(ascii: "\\"), position + 1 < bytes.count { position += 1 }
            text.append(bytes[position])
            position += 1
        }
        _ = take(UInt8(ascii: "\""))
        return String(decoding: text, as: UTF8.self)
    }
}
