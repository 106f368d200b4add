// The error for a run whose state another process removed.

/// The error for a journal, a file of receipts or a state folder that is no longer at its path.
package struct StateRemovedError: Error, Equatable, CustomStringConvertible {
    /// The path of the removed file or folder.
    package let path: String

    /// The problem and the next step.
    package var description: String {
        "\(path) was removed during this run, and the finished batches with it; find out which process removed it (a run with --overwrite?), then run the same command again"
    }
}
