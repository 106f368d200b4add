// How many cores this process may use. What a machine has is not what a job, a container or a task was given.

import FoundationEssentials
import Glibc

/// The cores that this process may use, by each of the ways to limit them.
public struct AvailableCores: Equatable, Sendable {
    /// Cores of the machine.
    public var machine: Int
    /// Cores that the scheduler of the kernel lets this process run on: `taskset`, cpusets, a batch system's binding.
    public var affinity: Int
    /// Processor time that control groups grant, in cores, rounded up; nil without a limit. Containers' limits are of
    /// this kind.
    public var quota: Int?
    /// What Slurm was asked for (SLURM_CPUS_PER_TASK).
    public var perTask: Int?

    /// Which limit says how many threads there are.
    public enum Limit: String, Sendable {
        case affinity
        case quota = "cgroup quota"
        case perTask = "SLURM_CPUS_PER_TASK"
    }

    /// Cores that are known.
    public init(machine: Int, affinity: Int, quota: Int? = nil, perTask: Int? = nil) {
        (self.machine, self.affinity) = (max(machine, affinity, 1), max(affinity, 1))
        (self.quota, self.perTask) = (quota, perTask)
    }

    /// What the system and `environment` say of this process.
    public init(environment: [String: String]) {
        let online = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        self.init(
            machine: online, affinity: AvailableCores.affinityCount() ?? online,
            quota: AvailableCores.quota(.ofThisProcess),
            perTask: environment["SLURM_CPUS_PER_TASK"].flatMap { Int($0) }
                .flatMap { $0 > 0 ? $0 : nil })
    }

    // MARK: Sharing

    /// Cores for this process, if `tasks` like it run on this machine, and the limit that says so; nil where it is the
    /// machine itself. Cores that a process is bound to are its own, and so are those that Slurm was asked for; a quota
    /// is shared, and so is a machine.
    public func share(of tasks: Int = 1) -> (cores: Int, limit: Limit?) {
        let tasks = max(1, tasks)
        let isBound = affinity < machine
        var least = (
            cores: isBound ? affinity : affinity / tasks, limit: isBound ? Limit.affinity : nil
        )
        // What was asked for says nothing where the kernel says what was given.
        if let perTask, !isBound, perTask < least.cores { least = (perTask, .perTask) }
        if let quota, quota / tasks < least.cores { least = (quota / tasks, .quota) }
        return (max(1, least.cores), least.limit)
    }

    /// What is to be said of `threads` that were asked for.
    public func warning(threads: Int) -> String? {
        let (cores, limit) = share()
        guard threads > cores else { return nil }
        let reason = limit.map { ", by \($0.rawValue)" } ?? ""
        return
            "--threads \(threads) is more than the \(cores) \(cores == 1 ? "core" : "cores") that this process may use\(reason); more threads than cores only slow it down"
    }

    // MARK: The kernel's word

    /// Cores in the mask of `sched_getaffinity`, which Swift does not see; nil where the kernel has none.
    private static func affinityCount() -> Int? {
        typealias Call = @convention(c) (pid_t, Int, UnsafeMutableRawPointer) -> Int32
        guard let symbol = dlsym(nil, "sched_getaffinity") else { return nil }
        let call = unsafeBitCast(symbol, to: Call.self)
        // The kernel wants room for all cores that it could have.
        var bytes = 128
        while bytes <= 1 << 16 {
            var mask = [UInt64](repeating: 0, count: bytes / 8)
            if mask.withUnsafeMutableBytes({ call(0, $0.count, $0.baseAddress!) }) == 0 {
                let count = mask.reduce(0) { $0 + $1.nonzeroBitCount }
                return count > 0 ? count : nil
            }
            guard errno == EINVAL else { return nil }
            bytes *= 2
        }
        return nil
    }

    // MARK: Control groups

    /// The tightest quota of the groups that this process is in and of those above them, in cores, rounded up.
    static func quota(_ groups: ControlGroups) -> Int? {
        let quotas = groups.folders(of: "cpu").compactMap { folder, version in
            version == 2
                ? groups.read(folder + "/cpu.max").flatMap(quotaOfVersion2)
                : quotaOfVersion1(
                    groups.read(folder + "/cpu.cfs_quota_us"),
                    groups.read(folder + "/cpu.cfs_period_us"))
        }
        return quotas.min().map { max(1, Int($0.rounded(.up))) }
    }

    /// "150000 100000", microseconds in each period; "max 100000" without a limit.
    private static func quotaOfVersion2(_ text: String) -> Double? {
        let parts = text.split(whereSeparator: \.isWhitespace)
        guard parts.count == 2, let time = Double(parts[0]), let period = Double(parts[1]),
            time > 0, period > 0
        else { return nil }
        return time / period
    }

    /// The same in two files; -1 without a limit.
    private static func quotaOfVersion1(_ time: String?, _ period: String?) -> Double? {
        func number(_ text: String?) -> Double? {
            text.flatMap { Double($0.filter { !$0.isWhitespace }) }.flatMap { $0 > 0 ? $0 : nil }
        }
        guard let time = number(time), let period = number(period) else { return nil }
        return time / period
    }
}
