// Messages of more than one line.

/// An error whose message has lines. Others have one, whatever the names in it contain: only who makes a message knows
/// which of its line breaks are meant.
public protocol ErrorWithLines: Error {
    /// The message.
    var lines: [String] { get }
}

/// The lines of `error`'s message.
public func messageLines(_ error: any Error) -> [String] {
    (error as? any ErrorWithLines)?.lines ?? ["\(error)"]
}
