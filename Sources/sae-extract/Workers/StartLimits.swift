// Checks of the system's limits on memory, files, threads and processes.

import Extraction
import Glibc
import Threading

/// Checks that this program makes before it starts threads and workers.
enum StartLimits {
    /// Bytes of address space that the threads of the Swift runtime and Subprocess need, mostly for their stacks.
    private static let threadSpace = 160 << 20

    /// Throws `LauncherError` if the address space is too small for the Swift runtime's threads. The runtime would
    /// wait forever for these threads.
    static func checkMemory() throws {
        let room = mmap(
            nil, threadSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard room != MAP_FAILED else { throw LauncherError.noMemory(bytes: threadSpace) }
        munmap(room, threadSpace)
    }

    /// The number of files that this process opens: for each child process, and for everything else.
    private static let files = (eachChild: 8, own: 32)

    /// Throws `LauncherError` if the limit on open files is too low for `workers` workers. If `workers` is 0, the
    /// only child lists the devices. Without this check, the library Subprocess would end this process when it cannot
    /// make a pipe.
    private static func checkFiles(workers: Int) throws {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        let needed = files.own + files.eachChild * max(1, workers)
        guard limit.rlim_cur < rlim_t(needed) else { return }
        throw LauncherError.noFiles(limit: Int(limit.rlim_cur), needed: needed, workers: workers)
    }

    /// Throws `LauncherError` if the system allows too few threads, processes or open files for this process and its
    /// `workers`. If `workers` is empty, counts the child that lists the devices. Also throws if /proc/self/task is
    /// not readable.
    static func checkTasks(_ workers: [WorkerTask] = [], asksHub: Bool = false) throws {
        guard access("/proc/self/task", R_OK | X_OK) == 0 else { throw LauncherError.noProc }
        try checkFiles(workers: workers.count)
        // The threads of this process are the main thread, the signal thread, libdispatch's pool, and a few helper
        // threads of libraries and the progress display. The pool has up to one thread per core. Each of four
        // downloads uses two threads.
        let cores = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let own = 8 + min(cores, 3 * max(1, workers.count) + 1) + (asksHub ? 8 : 0)
        let children = workers.isEmpty ? 1 : workers.reduce(0) { $0 + $1.taskCount }
        // Some of these threads may be running already.
        let count = max(0, own + children - TaskLimits.ownThreads)
        if let reason = TaskLimits.reasonAgainst(count) {
            throw LauncherError.noTasks(count: count, reason: reason)
        }
    }
}
