// What journals and files of receipts have in common: one process appends to each, and each must stay in its place.

import Files
import Glibc

/// A journal, or the folder of the state, that is not where its process put it.
public struct StateRemovedError: Error, Equatable, CustomStringConvertible {
    /// Where it was.
    public let path: String

    /// What happened and what to do.
    public var description: String {
        "\(path) has been removed while this run was at work, and its batches with it; find out who did it (a run with --overwrite?), then run the same command again"
    }
}

/// Fails where the file that `descriptor` is open on is not at `path` any more. Throws `StateRemovedError`.
package func checkInPlace(_ descriptor: Int32, _ place: GuardedPath) throws {
    var own = stat()
    guard fstat(descriptor, &own) == 0, let there = try? place.status(),
        own.st_dev == there.st_dev, own.st_ino == there.st_ino
    else { throw StateRemovedError(path: place.path) }
}

/// Shortens a file that is being written to `end` bytes, and goes on there.
package func cutOff(_ descriptor: Int32, at end: Int) {
    ftruncate(descriptor, off_t(end))
    lseek(descriptor, off_t(end), SEEK_SET)
}
