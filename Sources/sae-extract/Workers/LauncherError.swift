// Errors that are thrown if threads or workers cannot be started.

/// The reason why threads or workers cannot be started.
enum LauncherError: Error, CustomStringConvertible {
    /// The limit on address space leaves too little room for the threads that wait for workers. They need `bytes`.
    case noMemory(bytes: Int)
    /// /proc is missing. Without it, libdispatch ends the process, because it reads the state of its threads there.
    case noProc
    /// The system refused one thread.
    case noThread(reason: String)
    /// The system does not allow `count` more threads and processes.
    case noTasks(count: Int, reason: String)
    /// The limit on open files is `limit`, but the pipes to child processes need `needed` files. The children are
    /// `workers` workers. If `workers` is 0, the only child lists the devices.
    case noFiles(limit: Int, needed: Int, workers: Int)

    var description: String {
        switch self {
        case .noMemory(let bytes):
            "cannot reserve \(bytes >> 20) MiB of memory to start workers; raise the limit (ulimit -v, or the job's memory)"
        case .noProc:
            "/proc is missing or cannot be read; only inspect, verify, report and help work without it; mount it (mount -t proc proc /proc, or the sandbox's own way)"
        case .noThread(let reason):
            "cannot start a thread: \(reason); end other processes, or raise the limit"
        case .noTasks(let count, let reason):
            "cannot start \(count) more threads and processes, which this command may need: \(reason); end other processes, give fewer --threads and --workers, or raise the limit"
        case .noFiles(let limit, let needed, let workers):
            "\(limit) files may be open at once (ulimit -n), but \(workers > 0 ? "\(workers) \(workers == 1 ? "worker needs" : "workers need")" : "this command needs") \(needed); raise the limit (ulimit -n \(needed)\(workers > 1 ? "; ulimit -Hn shows the maximum), or give fewer --workers" : "; ulimit -Hn shows the maximum)")"
        }
    }
}
