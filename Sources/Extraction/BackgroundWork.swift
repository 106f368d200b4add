// What runs beside a worker that waits for a device.

import Dispatch
import Synchronization
import Threading

/// Work beside the caller's, a few pieces at a time, each with threads of its own.
final class BackgroundWork: Sendable {
    /// One author's files are compressed one a thread, and the last ones leave threads idle; two authors' fill them.
    private static let limit = 2

    private let pools: Mutex<[ThreadPool]>
    private let places = DispatchSemaphore(value: limit)
    private let group = DispatchGroup()
    private let failure = Mutex<(any Error)?>(nil)

    /// Each piece of work has `threadCount` threads. Throws `BackendError`.
    init(threadCount: Int) throws {
        pools = Mutex(
            try (0..<BackgroundWork.limit).map { _ in try ThreadPool(threadCount: threadCount) })
    }

    /// Begins `body`, which touches nothing that the caller does, once there is a place for it. Throws what an earlier
    /// one threw.
    func begin(_ body: @escaping (ThreadPool) throws -> Void) throws {
        places.wait()
        do {
            try throwFailure()
        } catch {
            places.signal()
            throw error
        }
        nonisolated(unsafe) let body = body
        DispatchQueue.global().async(group: group) { [self] in
            let threads = pools.withLock { $0.removeLast() }
            do {
                try body(threads)
            } catch {
                failure.withLock { $0 = $0 ?? error }
            }
            pools.withLock { $0.append(threads) }
            places.signal()
        }
    }

    /// Waits for all that was begun, and throws what one threw.
    func finish() throws {
        group.wait()
        try throwFailure()
    }

    private func throwFailure() throws {
        let error = failure.withLock { error in
            defer { error = nil }
            return error
        }
        if let error { throw error }
    }
}
