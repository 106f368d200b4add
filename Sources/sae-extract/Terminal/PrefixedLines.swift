// Puts a text before a message of several lines.

extension [String] {
    /// Returns the lines of a message, with `head` put before the first line.
    func prefixed(by head: String) -> [String] {
        [head + (first ?? "")] + dropFirst()
    }
}
