// A pool of threads that process numbered items of work. What is computed for an item depends only on the item's
// number, so the results are the same for any number of threads.

import FoundationEssentials
import Glibc
import Synchronization

/// A fixed set of threads. The thread that calls `forEach` is one of them.
public final class ThreadPool: @unchecked Sendable {
    /// The number of threads that work, the calling thread included.
    public private(set) var threadCount: Int

    private typealias Work = (_ item: Int, _ thread: Int) -> Void
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let begun = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let finished = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let nextItem = Atomic<Int>(0)
    // `lock` protects the properties below.
    private var work: Work?
    private var itemCount = 0
    private var generation = 0
    private var active = 0
    private var isStopping = false
    private var threads: [pthread_t] = []

    /// Starts `threadCount - 1` threads, because the calling thread also works. Throws `ThreadError` if the system
    /// refuses to start a thread.
    public convenience init(threadCount: Int) throws(ThreadError) {
        precondition(threadCount > 0)
        self.init()
        for index in 1..<threadCount { try start(index, of: threadCount) }
        self.threadCount = threadCount
    }

    /// Starts as many threads as the system allows, at most `count` with the calling thread. Use this for work that
    /// can also run on one thread.
    public convenience init(upTo count: Int) {
        self.init()
        for index in 1..<max(count, 1) {
            guard (try? start(index, of: count)) != nil else { return }
            threadCount = index + 1
        }
    }

    /// Returns a pool with one thread per core that this process may use, or fewer if the system refuses threads.
    public static func ofAvailableCores() -> ThreadPool {
        let cores = AvailableCores(environment: ProcessInfo.processInfo.environment)
        return ThreadPool(upTo: cores.share().cores)
    }

    private init() {
        threadCount = 1
        pthread_mutex_init(lock, nil)
        pthread_cond_init(begun, nil)
        pthread_cond_init(finished, nil)
    }

    deinit {
        pthread_mutex_lock(lock)
        isStopping = true
        pthread_cond_broadcast(begun)
        pthread_mutex_unlock(lock)
        for thread in threads { pthread_join(thread, nil) }
        lock.deallocate()
        begun.deallocate()
        finished.deallocate()
    }

    /// Calls `body` for each item in 0..<count, on all threads, and returns when all calls have returned. `thread` is
    /// in 0..<threadCount, and differs between calls that run at the same time. `body` must not call `forEach`.
    public func forEach(_ count: Int, _ body: (_ item: Int, _ thread: Int) -> Void) {
        if threadCount == 1 || count <= 1 {
            for item in 0..<count { body(item, 0) }
            return
        }
        withoutActuallyEscaping(body) { body in
            pthread_mutex_lock(lock)
            work = body
            itemCount = count
            nextItem.store(0, ordering: .relaxed)
            active = threadCount - 1
            generation += 1
            pthread_cond_broadcast(begun)
            pthread_mutex_unlock(lock)
            takeItems(body, count: count, thread: 0)
            pthread_mutex_lock(lock)
            while active > 0 { pthread_cond_wait(finished, lock) }
            work = nil
            pthread_mutex_unlock(lock)
        }
    }

    /// Does the same as `forEach`, for a `body` that can throw. If calls fail, the other items are still processed.
    /// Then throws the error of the lowest item that failed.
    public func tryForEach(_ count: Int, _ body: (_ item: Int, _ thread: Int) throws -> Void) throws
    {
        let failures = Mutex<[(item: Int, error: any Error)]>([])
        forEach(count) { item, thread in
            do {
                try body(item, thread)
            } catch {
                failures.withLock { $0.append((item, error)) }
            }
        }
        if let first = failures.withLock({ $0.min { $0.item < $1.item } }) { throw first.error }
    }

    private func takeItems(_ work: Work, count: Int, thread: Int) {
        while true {
            let item = nextItem.wrappingAdd(1, ordering: .relaxed).oldValue
            guard item < count else { return }
            work(item, thread)
        }
    }

    // MARK: Threads

    private final class Start {
        unowned(unsafe) let pool: ThreadPool
        let index: Int

        init(pool: ThreadPool, index: Int) {
            self.pool = pool
            self.index = index
        }
    }

    private func start(_ index: Int, of count: Int) throws(ThreadError) {
        var thread = pthread_t()
        let start = Unmanaged.passRetained(Start(pool: self, index: index))
        let status = pthread_create(
            &thread, nil,
            { argument in
                let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
                start.pool.run(start.index)
                return nil
            }, start.toOpaque())
        guard status == 0 else {
            start.release()
            throw ThreadError(
                count: count,
                reason:
                    "\(String(cString: strerror(status))): \(TaskLimits.ofThisProcess.description)")
        }
        threads.append(thread)
    }

    private func run(_ index: Int) {
        var seen = 0
        pthread_mutex_lock(lock)
        while true {
            while generation == seen && !isStopping { pthread_cond_wait(begun, lock) }
            if isStopping { break }
            seen = generation
            let (work, count) = (self.work!, itemCount)
            pthread_mutex_unlock(lock)
            takeItems(work, count: count, thread: index)
            pthread_mutex_lock(lock)
            active -= 1
            if active == 0 { pthread_cond_signal(finished) }
        }
        pthread_mutex_unlock(lock)
    }
}
