// Asks a worker to end early.

import Synchronization

/// A flag that asks a worker to end after the current batch.
public final class StopFlag: Sendable {
    private let flag = Atomic<Bool>(false)

    /// Makes a flag that is not raised.
    public init() {}

    /// Raises the flag. It cannot be lowered.
    public func raise() { flag.store(true, ordering: .relaxed) }

    /// Whether the flag is raised.
    public var isRaised: Bool { flag.load(ordering: .relaxed) }

    /// Throws `StopRequest` if the flag is raised.
    public func check() throws(StopRequest) {
        if isRaised { throw StopRequest() }
    }
}

/// The worker was asked to end. Finished batches and files are kept.
public struct StopRequest: Error {}
