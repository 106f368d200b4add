// What keeps the system from starting a thread or a process. To the kernel both are tasks, and it counts them together.

import Glibc

/// The limits on threads and processes, for messages.
public struct TaskLimits: Sendable {
    /// `ulimit -u`: tasks of this user; nil without a limit, or where the kernel does not apply it to this user.
    var perUser: Int?
    /// The group of processes that has no room left, the number that it may have, and the number that it has.
    var group: (folder: String, maximum: Int, count: Int)?
    /// `ulimit -v`, kilobytes: a thread's stack takes room; nil without a limit.
    var addressSpace: Int?

    /// The limits of this process, as they stand now that a task was refused.
    public static var ofThisProcess: TaskLimits {
        func limit(_ resource: __rlimit_resource) -> Int? {
            var limit = rlimit()
            guard getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0,
                limit.rlim_cur != rlim_t.max
            else { return nil }
            return Int(clamping: limit.rlim_cur)
        }
        return TaskLimits(
            // The kernel lets root pass.
            perUser: geteuid() == 0 ? nil : limit(__RLIMIT_NPROC),
            group: fullGroup(.ofThisProcess), addressSpace: limit(RLIMIT_AS).map { $0 >> 10 })
    }

    /// The group, this process' own or one above it, whose `pids.max` is reached.
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

    /// Which limit it is and what it stands at, in any case something.
    public var description: String {
        known
            ?? "neither ulimit -u nor pids.max says so; see kernel.threads-max and the memory that is free"
    }

    /// The same; nil where no limit is known.
    public var known: String? {
        if let group {
            return "pids.max of \(group.folder) is \(group.maximum), and \(group.count) are in use"
        }
        let limits =
            (perUser.map { ["ulimit -u is \($0)"] } ?? [])
            + (addressSpace.map { ["ulimit -v is \($0)"] } ?? [])
        return limits.isEmpty ? nil : limits.joined(separator: ", ")
    }

    /// Threads that this process has; 1 where `/proc` does not tell.
    public static var ownThreads: Int {
        let text = ControlGroups.ofThisProcess.read("/proc/self/stat") ?? ""
        // Number 20 of proc(5); the second, in parentheses, may hold spaces.
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        return fields.count > 18 ? max(1, Int(fields[18]) ?? 1) : 1
    }

    /// Why `count` tasks cannot be started, by trying; nil where they can. Done before anything that would wait for them
    /// for ever: libdispatch and Swift's concurrency try again and again where a thread is refused. The tasks are threads
    /// of small stacks that end at once.
    public static func reasonAgainst(_ count: Int) -> String? {
        var reason: String?
        // Threads and processes that have just ended may count for a moment still.
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
        // glibc takes what libraries keep for each thread from it.
        pthread_attr_setstacksize(&attributes, 1 << 18)
        let gate = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        pthread_mutex_init(gate, nil)
        // All are there at once: each waits until the last has been started.
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
