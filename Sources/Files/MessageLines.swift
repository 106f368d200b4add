// Messages of more than one line.

/// An error whose message has several lines. Every other message is one line, whatever the names in it contain: only the code
/// that makes a message knows which of its line breaks are meant.
public protocol ErrorWithLines: Error {
    /// The lines of the message.
    var lines: [String] { get }
}

/// Returns the lines of the message of `error`.
public func messageLines(_ error: any Error) -> [String] {
    (error as? any ErrorWithLines)?.lines ?? ["\(error)"]
}
