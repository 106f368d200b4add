// Messages of more than one line.

/// An error whose message has several lines. In any other message, line breaks are escaped, because they can only
/// come from names, such as file names.
public protocol ErrorWithLines: Error {
    /// The lines of the message.
    var lines: [String] { get }
}

/// Returns the lines of the message of `error`.
public func messageLines(_ error: any Error) -> [String] {
    (error as? any ErrorWithLines)?.lines ?? ["\(error)"]
}
