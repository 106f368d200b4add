// Runs work on background threads while the worker waits for its device.

import Dispatch
import Synchronization
import Threading

/// Runs up to two pieces of work at a time, each on its own pool of threads.
final class BackgroundWork: Sendable {
    /// The maximum number of pieces of work at a time. A piece writes one author's files, each on one thread. Near
    /// the end of a piece, some threads are idle, and a second piece can use their cores.
    private static let limit = 2

    private let pools: Mutex<[ThreadPool]>
    private let places = DispatchSemaphore(value: limit)
    private let group = DispatchGroup()
    private let failure = Mutex<(any Error)?>(nil)

    /// Makes pools of `threadCount` threads, one pool for each piece of work. Throws `ThreadError`.
    init(threadCount: Int) throws {
        pools = Mutex(
            try (0..<BackgroundWork.limit).map { _ in try ThreadPool(threadCount: threadCount) })
    }

    /// Waits until a pool is free, then starts `body` on another thread. The caller must not change state that `body`
    /// uses. Throws the error of an earlier piece of work.
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

    /// Waits until all pieces of work have ended. Throws the error of a piece that has failed.
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
