// Checks of the system's limits on memory, files, threads and processes.

import Extraction
import Glibc
import Threading

/// Checks that run before threads and workers are started.
enum StartLimits {
    /// Bytes of address space that the threads of the Swift runtime and Subprocess need, mostly for their stacks.
    private static let threadSpace = 160 << 20

    /// Throws `LauncherError` if the runtime could not start its threads: it would wait forever.
    static func checkMemory() throws {
        let room = mmap(
            nil, threadSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard room != MAP_FAILED else { throw LauncherError.noMemory(bytes: threadSpace) }
        munmap(room, threadSpace)
    }

    /// Open files of this process: for each child, and for everything else.
    private static let files = (eachChild: 8, own: 32)

    /// Throws `LauncherError` if the limit on open files is too low for `workers` workers; if that is 0, for the one child that
    /// lists the devices. Subprocess ends the process if it cannot make a pipe.
    private static func checkFiles(workers: Int) throws {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        let needed = files.own + files.eachChild * max(1, workers)
        guard limit.rlim_cur < rlim_t(needed) else { return }
        throw LauncherError.noFiles(limit: Int(limit.rlim_cur), needed: needed, workers: workers)
    }

    /// Throws `LauncherError` if the system does not allow the threads and processes that this command needs: those of `workers`
    /// and those that wait for them. No workers: those for the child that lists the devices. Throws `LauncherError` also if
    /// /proc/self/task is not readable.
    static func checkTasks(_ workers: [WorkerTask] = [], asksHub: Bool = false) throws {
        guard access("/proc/self/task", R_OK | X_OK) == 0 else { throw LauncherError.noProc }
        try checkFiles(workers: workers.count)
        // Threads of this process: the main thread, the one that handles signals, libdispatch's pool (up to one per core if there
        // is enough work), and those of Subprocess, of libdispatch and of the progress display. Four downloads use one thread
        // each, and one more each to resolve the host name.
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
