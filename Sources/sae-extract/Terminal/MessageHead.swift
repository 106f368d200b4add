// Messages of several lines.

extension [String] {
    /// Returns the lines of a message with `head` before the first line.
    func after(_ head: String) -> [String] {
        [head + (first ?? "")] + dropFirst()
    }
}
