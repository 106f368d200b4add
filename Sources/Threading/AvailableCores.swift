// The number of cores that this process may use. It can be less than the machine has, for example in a container or a
// Slurm task.

import FoundationEssentials
import Glibc

/// The limits on the number of cores that this process may use.
public struct AvailableCores: Equatable, Sendable {
    /// The number of cores of the machine; at least `affinity`.
    public var machine: Int
    /// The number of cores on which the kernel lets this process run. `taskset`, cpusets and batch systems set this
    /// limit.
    public var affinity: Int
    /// The processor time per second that the control groups allow, in cores, rounded up. Nil if unlimited.
    /// Containers are limited in this way.
    public var quota: Int?
    /// The number of cores per task requested from Slurm (`SLURM_CPUS_PER_TASK`). Nil if it is not set or not a
    /// positive number.
    public var perTask: Int?

    /// The kind of limit that decides the number of cores.
    public enum Limit: String, Sendable {
        case affinity
        case quota = "cgroup quota"
        case perTask = "SLURM_CPUS_PER_TASK"
    }

    /// Stores limits that the caller knows. `machine` and `affinity` become at least 1.
    public init(machine: Int, affinity: Int, quota: Int? = nil, perTask: Int? = nil) {
        (self.machine, self.affinity) = (max(machine, affinity, 1), max(affinity, 1))
        (self.quota, self.perTask) = (quota, perTask)
    }

    /// Reads the limits of this process from the system and from `environment`.
    public init(environment: [String: String]) {
        let online = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        self.init(
            machine: online, affinity: AvailableCores.affinityCount() ?? online,
            quota: AvailableCores.quota(.ofThisProcess),
            perTask: environment["SLURM_CPUS_PER_TASK"].flatMap { Int($0) }
                .flatMap { $0 > 0 ? $0 : nil })
    }

    // MARK: Sharing

    /// Returns the number of cores for each of `tasks` processes on this machine, and the kind of limit that decides
    /// it. `limit` is nil if the machine's cores decide it. The processes divide the machine's cores, or a quota,
    /// equally. Cores to which a process is bound, or which it requested from Slurm, are not divided.
    public func share(of tasks: Int = 1) -> (cores: Int, limit: Limit?) {
        let tasks = max(1, tasks)
        let isBound = affinity < machine
        var least = (
            cores: isBound ? affinity : affinity / tasks, limit: isBound ? Limit.affinity : nil
        )
        // If the process is bound to cores, it was granted these cores. Then the request to Slurm does not matter.
        if let perTask, !isBound, perTask < least.cores { least = (perTask, .perTask) }
        if let quota, quota / tasks < least.cores { least = (quota / tasks, .quota) }
        return (max(1, least.cores), least.limit)
    }

    /// Returns a warning if `threads`, the value of `--threads`, exceeds the cores that this process may use.
    /// Otherwise nil.
    public func warning(threads: Int) -> String? {
        let (cores, limit) = share()
        guard threads > cores else { return nil }
        let reason = limit.map { " (limit: \($0.rawValue))" } ?? ""
        return
            "--threads \(threads) is more than the \(cores) \(cores == 1 ? "core" : "cores") that this process may use\(reason); more threads than cores only slow the run down"
    }

    // MARK: Affinity

    /// Returns the number of cores in the affinity mask of this process. Nil if it cannot be read. Finds
    /// `sched_getaffinity` by its name, because Swift does not import it.
    private static func affinityCount() -> Int? {
        typealias Call = @convention(c) (pid_t, Int, UnsafeMutableRawPointer) -> Int32
        guard let symbol = dlsym(nil, "sched_getaffinity") else { return nil }
        let call = unsafeBitCast(symbol, to: Call.self)
        // EINVAL means that the mask is too small for the kernel, so larger masks are tried.
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

    /// Returns the smallest quota of this process's control groups and the groups above them, in cores, rounded up.
    /// Nil if none has a quota.
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

    /// Parses `cpu.max`. "150000 100000" means 150,000 µs of processor time in each period of 100,000 µs: 1.5 cores.
    /// "max 100000" means no limit (nil).
    private static func quotaOfVersion2(_ text: String) -> Double? {
        let parts = text.split(whereSeparator: \.isWhitespace)
        guard parts.count == 2, let time = Double(parts[0]), let period = Double(parts[1]),
            time > 0, period > 0
        else { return nil }
        return time / period
    }

    /// Parses the two files of version 1: the processor time and the period, both in microseconds. A time of -1 means
    /// no limit (nil).
    private static func quotaOfVersion1(_ time: String?, _ period: String?) -> Double? {
        func number(_ text: String?) -> Double? {
            text.flatMap { Double($0.filter { !$0.isWhitespace }) }.flatMap { $0 > 0 ? $0 : nil }
        }
        guard let time = number(time), let period = number(period) else { return nil }
        return time / period
    }
}
