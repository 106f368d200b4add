// Strings that are compared byte by byte.

/// A string whose equality and hash are those of its UTF-8 bytes.
///
/// Swift's `String` treats "é" and "e\u{301}" as equal. As token pieces, author names or tensor names, they are
/// different.
public struct ExactString: Hashable, Sendable, CustomStringConvertible {
    /// The string as given.
    public let string: String

    /// Wraps `string` unchanged.
    public init(_ string: String) {
        self.string = string
    }

    /// Compares the UTF-8 bytes.
    public static func == (a: ExactString, b: ExactString) -> Bool {
        a.string.utf8.elementsEqual(b.string.utf8)
    }

    /// Feeds the UTF-8 bytes to `hasher`.
    public func hash(into hasher: inout Hasher) {
        var copy = string
        copy.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }

    /// The string as given.
    public var description: String { string }
}
