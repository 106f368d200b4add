// Strings told apart by their bytes.

/// A string whose equality and hash are those of its UTF-8 bytes.
///
/// Swift's `String` compares by canonical equivalence: "é" and "e\u{301}" are one dictionary key. Token
/// pieces, author names and tensor names are not: two spellings are two things.
public struct ExactString: Hashable, Sendable, CustomStringConvertible {
    /// The text itself.
    public let string: String

    /// Wraps `string` unchanged.
    public init(_ string: String) {
        self.string = string
    }

    /// Byte equality.
    public static func == (a: ExactString, b: ExactString) -> Bool {
        a.string.utf8.elementsEqual(b.string.utf8)
    }

    /// Feeds the UTF-8 bytes to `hasher`.
    public func hash(into hasher: inout Hasher) {
        var copy = string
        copy.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }

    /// The text itself.
    public var description: String { string }
}
