// Messages of more than one line.

/// An error whose message has several lines. The message of any other error is printed on one line: a line break in
/// it comes from a name, such as the name of a file, and is escaped.
public protocol ErrorWithLines: Error {
    /// The lines of the message.
    var lines: [String] { get }
}

/// Returns the lines of the message of `error`.
public func messageLines(_ error: any Error) -> [String] {
    (error as? any ErrorWithLines)?.lines ?? ["\(error)"]
}
