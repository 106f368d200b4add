// Runs work on other threads while the worker waits for its device.

import Dispatch
import Synchronization
import Threading

/// Runs a few pieces of work at a time, each on its own pool of threads.
final class BackgroundWork: Sendable {
    /// The number of pieces at a time. One thread compresses one file, so the last files of an author leave threads idle; the
    /// files of a second author use them.
    private static let limit = 2

    private let pools: Mutex<[ThreadPool]>
    private let places = DispatchSemaphore(value: limit)
    private let group = DispatchGroup()
    private let failure = Mutex<(any Error)?>(nil)

    /// Makes pools of `threadCount` threads, one for each piece. Throws `ThreadError`.
    init(threadCount: Int) throws {
        pools = Mutex(
            try (0..<BackgroundWork.limit).map { _ in try ThreadPool(threadCount: threadCount) })
    }

    /// Waits until fewer pieces run than are allowed, then starts `body` on another thread. `body` must not use state that the
    /// caller changes. Throws the error of an earlier piece.
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

    /// Waits for all pieces, and throws the error of one of them.
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
