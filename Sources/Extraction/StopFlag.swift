// Asks a worker to end early.

import Synchronization

/// A flag that asks a worker to end after the current batch.
package final class StopFlag: Sendable {
    private let flag = Atomic<Bool>(false)

    /// Makes a flag that is not raised.
    package init() {}

    /// Raises the flag. It cannot be lowered.
    package func raise() { flag.store(true, ordering: .relaxed) }

    /// Whether the flag is raised.
    package var isRaised: Bool { flag.load(ordering: .relaxed) }

    /// Throws `StopRequest` if the flag is raised.
    package func check() throws(StopRequest) {
        if isRaised { throw StopRequest() }
    }
}

/// The worker was asked to end. Finished batches and files are kept.
package struct StopRequest: Error {}
