// Tests of the limits on cores and tasks, which are read from invented kernel files of hosts and containers.

import Testing

@testable import Threading

struct AvailableCoresTests {
    private func groups(_ files: [String: String]) -> ControlGroups {
        ControlGroups { files[$0] }
    }

    private static let version1 = [
        "/proc/self/cgroup": "9:pids:/job\n4:cpu,cpuacct:/user/job 7\n0::/system/job\n",
        "/proc/self/mountinfo": """
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
        33 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
        34 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw

        """,
    ]
    private static let version2 = [
        "/proc/self/cgroup": "0::/a/b\n",
        "/proc/self/mountinfo": "40 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
    ]

    @Test(arguments: [
        // In order: a quota of the process' group, no quota (twice), 1.5 cores, a quota of the parent group, two
        // quotas, of which the smaller counts (twice).
        (["a/b/cpu.max": "100000 100000\n"], 1), (["a/b/cpu.max": "max 100000\n"], nil), ([:], nil),
        (["a/b/cpu.max": "150000 100000\n"], 2), (["a/cpu.max": "400000 100000\n"], 4),
        (["a/cpu.max": "200000 100000\n", "a/b/cpu.max": "300000 100000\n"], 2),
        (["a/cpu.max": "300000 100000\n", "a/b/cpu.max": "50000 100000\n"], 1),
        // In a container, the limit can be at the top of the mounted tree. Invalid text is not a limit.
        (["cpu.max": "200000 100000\n"], 2), (["a/b/cpu.max": "oops"], nil),
    ])
    func quotasOfVersion2(files: [String: String], cores: Int?) {
        var all = Self.version2
        for (name, text) in files { all["/sys/fs/cgroup/" + name] = text }
        #expect(AvailableCores.quota(groups(all)) == cores)
    }

    @Test(arguments: [
        ("user/job 7/", "-1", nil), ("user/job 7/", "250000", 3), ("user/", "100000", 1),
        ("", "200000", 2),
        ("other/", "100000", nil),
    ])
    func quotasOfVersion1(folder: String, time: String, cores: Int?) {
        var all = Self.version1
        all["/sys/fs/cgroup/cpu,cpuacct/\(folder)cpu.cfs_quota_us"] = time + "\n"
        all["/sys/fs/cgroup/cpu,cpuacct/\(folder)cpu.cfs_period_us"] = "100000\n"
        #expect(AvailableCores.quota(groups(all)) == cores)
    }

    /// Checks containers. `group` is the line in `/proc/self/cgroup`, and `root` is the root of the mount. The
    /// limit's file must be found in `folder`.
    @Test(arguments: [
        // The cases: only the container's groups are mounted, a cgroup namespace, paths of the host, names with
        // spaces.
        ("0::/docker/4f", "/docker/4f", "/sys/fs/cgroup"), ("0::/", "/", "/sys/fs/cgroup"),
        ("0::/../../pod", "/", "/sys/fs/cgroup"), ("0::/kube/pod7", "/../..", "/sys/fs/cgroup"),
        ("0::/docker/4f/in", "/docker/4f", "/sys/fs/cgroup/in"),
        ("0::/my group", "/", "/sys/fs/cgroup/my group"),
        ("0::/my group/in", "/my\\040group", "/sys/fs/cgroup/in"),
    ])
    func groupsOfContainers(group: String, root: String, folder: String) {
        let files = [
            "/proc/self/cgroup": group + "\n",
            "/proc/self/mountinfo": "40 31 0:38 \(root) /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
            folder + "/cpu.max": "100000 100000",
        ]
        #expect(AvailableCores.quota(groups(files)) == 1)
        #expect(groups(files).folders(of: "cpu").first?.folder == folder)
    }

    @Test func nothingIsKnown() {
        #expect(AvailableCores.quota(groups([:])) == nil)
        #expect(groups(["/proc/self/cgroup": "oops\n::\n"]).folders(of: "cpu").isEmpty)
        let odd = [
            "/proc/self/cgroup": "0::/\n", "/proc/self/mountinfo": "1 2 - cgroup2\n\n- - - -\n",
        ]
        #expect(groups(odd).folders(of: "cpu").isEmpty)
    }

    @Test(
        arguments: [
            // The columns: machine, affinity, quota, SLURM_CPUS_PER_TASK, tasks, expected cores, expected limit.
            (64, 64, nil, nil, 1, 64, nil), (64, 8, nil, nil, 1, 8, "affinity"),
            (64, 64, 3, nil, 1, 3, "cgroup quota"), (64, 2, 3, nil, 1, 2, "affinity"),
            (64, 64, nil, 4, 1, 4, "SLURM_CPUS_PER_TASK"), (64, 8, nil, 4, 1, 8, "affinity"),
            (64, 64, 3, 4, 1, 3, "cgroup quota"), (4, 4, 8, 16, 1, 4, nil),
            // Tasks share the machine and a quota. Each task has its own bound cores or requested cores.
            (64, 64, nil, nil, 4, 16, nil), (64, 8, nil, nil, 4, 8, "affinity"),
            (64, 64, 8, nil, 4, 2, "cgroup quota"), (64, 64, nil, 4, 4, 4, "SLURM_CPUS_PER_TASK"),
            (2, 2, nil, nil, 8, 1, nil), (64, 64, 1, nil, 4, 1, "cgroup quota"),
        ] as [(Int, Int, Int?, Int?, Int, Int, String?)])
    func theTightestLimitCounts(
        machine: Int, affinity: Int, quota: Int?, perTask: Int?, tasks: Int, cores: Int,
        limit: String?
    ) {
        let share = AvailableCores(
            machine: machine, affinity: affinity, quota: quota, perTask: perTask
        ).share(of: tasks)
        #expect(share.cores == cores && share.limit?.rawValue == limit)
    }

    @Test func moreThreadsThanCoresAreSaid() {
        let cores = AvailableCores(machine: 64, affinity: 64, quota: 2)
        #expect(cores.warning(threads: 2) == nil)
        #expect(
            cores.warning(threads: 3)?.contains(
                "2 cores that this process may use (limit: cgroup quota)") == true)
    }

    @Test func thisProcessHasSome() {
        let here = AvailableCores(environment: [:])
        #expect((1...here.machine).contains(here.affinity) && here.perTask == nil)
        #expect(AvailableCores(environment: ["SLURM_CPUS_PER_TASK": "3"]).perTask == 3)
        for odd in ["0", "-1", "many"] {
            #expect(AvailableCores(environment: ["SLURM_CPUS_PER_TASK": odd]).perTask == nil)
        }
    }

    // MARK: Tasks

    @Test func theLimitOnTasksIsNamed() {
        var files = Self.version1
        files["/sys/fs/cgroup/pids/job/pids.max"] = "max\n"
        files["/sys/fs/cgroup/pids/pids.max"] = "12\n"
        files["/sys/fs/cgroup/pids/pids.current"] = "11\n"
        #expect(TaskLimits.fullGroup(groups(files)) == nil)
        files["/sys/fs/cgroup/pids/pids.current"] = "12\n"
        let limits = TaskLimits(perUser: 100, group: TaskLimits.fullGroup(groups(files)))
        #expect(
            limits.description
                == "the control group /sys/fs/cgroup/pids (a container or job) allows 12 threads and processes (pids.max) and has 12"
        )
        #expect(
            TaskLimits(perUser: 9, addressSpace: 400).description
                == "ulimit -u is 9, ulimit -v is 400")
        #expect(
            TaskLimits().known == nil && TaskLimits().description.contains("kernel.threads-max"))
    }

    @Test func aFewTasksCanBeStarted() {
        #expect(TaskLimits.reasonAgainst(8) == nil)
        let pool = ThreadPool(upTo: 3)
        #expect(TaskLimits.ownThreads >= pool.threadCount)
    }

    /// Checks that `init(upTo:)` starts at least one thread and at most as many as requested.
    @Test func aPoolOfAtMost() {
        let pool = ThreadPool(upTo: 3)
        #expect((1...3).contains(pool.threadCount))
        var seen = [Int](repeating: 0, count: 50)
        seen.withUnsafeMutableBufferPointer { seen in
            nonisolated(unsafe) let seen = seen
            pool.forEach(50) { item, _ in seen[item] += 1 }
        }
        #expect(seen.allSatisfy { $0 == 1 })
    }
}
