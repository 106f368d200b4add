// The error for a run whose state somebody removed.

/// A journal, a file of receipts or the folder of the state that is no longer in its place.
public struct StateRemovedError: Error, Equatable, CustomStringConvertible {
    /// The path at which it was.
    public let path: String

    /// The problem and what to do.
    public var description: String {
        "\(path) has been removed while this run was at work, and its batches with it; find out who did it (a run with --overwrite?), then run the same command again"
    }
}
