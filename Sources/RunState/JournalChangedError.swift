// The error for a journal that another process changed during the run.

/// The error for a journal that was changed after this run had read a batch from it.
package struct JournalChangedError: Error, Equatable, CustomStringConvertible {
    /// The path of the journal.
    package let path: String
    let author: Int
    let batch: Int

    /// The problem and the next step.
    package var description: String {
        "\(path): batch \(batch) of author \(author) has changed since this run first read it; make sure that no other program changes the journal, then run the same command again to compute the batch again"
    }
}
