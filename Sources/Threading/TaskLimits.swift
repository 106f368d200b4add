// The limits that can prevent the start of a thread or process. The kernel counts both as tasks.

import Glibc

/// The limits on the number of threads and processes. Messages print them.
public struct TaskLimits: Sendable {
    /// `ulimit -u`: the maximum number of tasks of this user. Nil if unlimited, or if the user is root: the limit
    /// does not apply to root.
    var perUser: Int?
    /// A control group that is full: its folder, its maximum number of tasks, and its current number of tasks. Nil if
    /// no group is full.
    var group: (folder: String, maximum: Int, count: Int)?
    /// `ulimit -v` in KiB. It matters because the stack of a thread takes address space. Nil if unlimited.
    var addressSpace: Int?

    /// The limits of this process at this moment. Read them right after the system has refused a thread or process.
    public static var ofThisProcess: TaskLimits {
        func limit(_ resource: __rlimit_resource) -> Int? {
            var limit = rlimit()
            guard getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0,
                limit.rlim_cur != rlim_t.max
            else { return nil }
            return Int(clamping: limit.rlim_cur)
        }
        return TaskLimits(
            // The kernel does not apply this limit to root.
            perUser: geteuid() == 0 ? nil : limit(__RLIMIT_NPROC),
            group: fullGroup(.ofThisProcess), addressSpace: limit(RLIMIT_AS).map { $0 >> 10 })
    }

    /// Returns the first full group, from this process's own group upwards. A group is full if its number of tasks
    /// has reached `pids.max`. Nil if no group is full.
    static func fullGroup(
        _ groups: ControlGroups
    ) -> (folder: String, maximum: Int, count: Int)? {
        func number(_ path: String) -> Int? {
            groups.read(path).flatMap { Int($0.filter { !$0.isWhitespace }) }
        }
        return groups.folders(of: "pids").lazy.compactMap { folder, _ in
            guard let maximum = number(folder + "/pids.max"),
                let count = number(folder + "/pids.current"), count >= maximum
            else { return nil }
            return (folder, maximum, count)
        }.first
    }

    /// The limits that may have caused a failure, with their values. If no limit is known, advice on what to check.
    public var description: String {
        known
            ?? "ulimit -u and pids.max do not explain the failure; check kernel.threads-max and the free memory"
    }

    /// The limits that may have caused a failure, with their values. Nil if no limit is known.
    public var known: String? {
        if let group {
            return
                "the control group \(group.folder) (a container or job) allows \(group.maximum) threads and processes (pids.max) and has \(group.count)"
        }
        let limits =
            (perUser.map { ["ulimit -u is \($0)"] } ?? [])
            + (addressSpace.map { ["ulimit -v is \($0)"] } ?? [])
        return limits.isEmpty ? nil : limits.joined(separator: ", ")
    }

    /// The number of threads of this process; 1 if `/proc` cannot be read.
    public static var ownThreads: Int {
        let text = ControlGroups.ofThisProcess.read("/proc/self/stat") ?? ""
        // The number of threads is field 20 (proc(5)). Parsing starts after field 2, a name in parentheses that may
        // contain spaces.
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        return fields.count > 18 ? max(1, Int(fields[18]) ?? 1) : 1
    }

    /// Tests whether the system can start `count` threads, by starting and ending them. Returns the reason if it
    /// cannot; nil if it can. Call this function before libdispatch or Swift concurrency start threads: if the system
    /// refuses a thread, these libraries retry for ever.
    public static func reasonAgainst(_ count: Int) -> String? {
        var reason: String?
        // Tries again after a delay, because the kernel may still count threads and processes that have just ended.
        for delay in [0, 20_000, 100_000, 300_000] as [UInt32] {
            usleep(delay)
            reason = reasonNowAgainst(count)
            if reason == nil { break }
        }
        return reason
    }

    private static func reasonNowAgainst(_ count: Int) -> String? {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        // 256 KiB, because glibc takes the thread-local storage of all libraries from the stack.
        pthread_attr_setstacksize(&attributes, 1 << 18)
        let gate = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        pthread_mutex_init(gate, nil)
        // Each thread waits for this mutex, so that all threads exist at the same time.
        pthread_mutex_lock(gate)
        var threads: [pthread_t] = []
        var reason: String?
        for _ in 0..<count {
            var thread = pthread_t()
            let status = pthread_create(
                &thread, &attributes,
                { gate in
                    let gate = gate!.assumingMemoryBound(to: pthread_mutex_t.self)
                    pthread_mutex_lock(gate)
                    pthread_mutex_unlock(gate)
                    return nil
                }, gate)
            guard status == 0 else {
                reason = "\(String(cString: strerror(status))): \(ofThisProcess.description)"
                break
            }
            threads.append(thread)
        }
        pthread_mutex_unlock(gate)
        for thread in threads { pthread_join(thread, nil) }
        pthread_mutex_destroy(gate)
        gate.deallocate()
        return reason
    }
}
