// How a worker is asked to end.

import Synchronization

/// Asks a worker to end after the batch in hand.
public final class StopFlag: Sendable {
    private let flag = Atomic<Bool>(false)

    /// A flag that is not raised.
    public init() {}

    /// Raises the flag, for good.
    public func raise() { flag.store(true, ordering: .relaxed) }

    /// Whether it is raised.
    public var isRaised: Bool { flag.load(ordering: .relaxed) }

    /// Throws `StopRequest` where the flag is raised.
    public func check() throws(StopRequest) {
        if isRaised { throw StopRequest() }
    }
}

/// The worker was asked to end. Nothing that was finished is lost.
public struct StopRequest: Error {}
