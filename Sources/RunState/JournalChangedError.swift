// The error for a journal that somebody changed during the run.

/// A journal that changed after this run read a batch of it.
public struct JournalChangedError: Error, Equatable, CustomStringConvertible {
    /// The path of the journal.
    public let path: String
    let author: Int
    let batch: Int

    /// The problem and what to do.
    public var description: String {
        "\(path): batch \(batch) of author \(author) has changed since this run first read it: somebody has changed the journal; find out who did, then run the same command again to compute the batch again"
    }
}
