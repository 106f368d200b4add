// What starts several processes of one command, and the variables by which it numbers them.

import Planning

/// One of the launchers that number their tasks. Of several names for one thing the first that is set counts.
struct TaskLauncher {
    /// As users know it.
    let name: String
    /// Which task this is, from 0.
    let rank: String
    /// How many there are. Some launchers do not say.
    let worldSize: [String]
    /// How many of them are on this machine.
    var localCount: [String] = []
    /// Which of those this is.
    var localRank: [String] = []
    /// How many machines they are on, where nothing says how many are on this one.
    var machineCount: String?
    /// One of these must be set beside rank and size; else somebody else may have set them.
    var signs: [String] = []

    /// All but Slurm, whose variables need more than a table. An inner one stands before those that may have started it:
    /// `srun` starts one `torchrun` or one daemon of `mpirun` on each machine.
    static let all = [
        TaskLauncher(
            name: "torchrun", rank: "RANK", worldSize: ["WORLD_SIZE"],
            localCount: ["LOCAL_WORLD_SIZE", "LOCAL_SIZE"], localRank: ["LOCAL_RANK"],
            signs: ["LOCAL_RANK", TaskLauncher.torchrunIdentifier]),
        TaskLauncher(
            name: "Horovod", rank: "HOROVOD_RANK", worldSize: ["HOROVOD_SIZE"],
            localCount: ["HOROVOD_LOCAL_SIZE"], localRank: ["HOROVOD_LOCAL_RANK"]),
        TaskLauncher(
            name: "Open MPI", rank: "OMPI_COMM_WORLD_RANK", worldSize: ["OMPI_COMM_WORLD_SIZE"],
            localCount: ["OMPI_COMM_WORLD_LOCAL_SIZE"], localRank: ["OMPI_COMM_WORLD_LOCAL_RANK"]),
        TaskLauncher(
            name: "MVAPICH", rank: "MV2_COMM_WORLD_RANK", worldSize: ["MV2_COMM_WORLD_SIZE"],
            localCount: ["MV2_COMM_WORLD_LOCAL_SIZE"], localRank: ["MV2_COMM_WORLD_LOCAL_RANK"]),
        TaskLauncher(
            name: "jsrun", rank: "JSM_NAMESPACE_RANK", worldSize: ["JSM_NAMESPACE_SIZE"],
            localCount: ["JSM_NAMESPACE_LOCAL_SIZE"], localRank: ["JSM_NAMESPACE_LOCAL_RANK"]),
        // PALS leaves the number of tasks to PMI.
        TaskLauncher(
            name: "PALS", rank: "PALS_RANKID", worldSize: ["PALS_SIZE", "PMI_SIZE"],
            localCount: ["PALS_LOCAL_SIZE", "PMI_LOCAL_SIZE"], localRank: ["PALS_LOCAL_RANKID"]),
        TaskLauncher(
            name: "Flux", rank: "FLUX_TASK_RANK", worldSize: ["FLUX_JOB_SIZE"],
            localRank: ["FLUX_TASK_LOCAL_ID"], machineCount: "FLUX_JOB_NNODES"),
        // Hydra, which MPICH and Intel MPI bring, and whatever else speaks PMI.
        TaskLauncher(
            name: "PMI", rank: "PMI_RANK", worldSize: ["PMI_SIZE"],
            localCount: ["MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"],
            localRank: ["MPI_LOCALRANKID", "PMI_LOCAL_RANK"]),
        TaskLauncher(
            name: "Platform MPI", rank: "MPI_RANKID", worldSize: ["MPI_NRANKS"],
            localCount: ["MPI_LOCALNRANKS"], localRank: ["MPI_LOCALRANKID"]),
        // PMIx and ALPS tell the number of tasks to their libraries alone.
        TaskLauncher(name: "PMIx", rank: "PMIX_RANK", worldSize: []),
        TaskLauncher(name: "ALPS", rank: "ALPS_APP_PE", worldSize: []),
    ]

    /// Set by torchrun for its workers, and by nobody by hand.
    static let torchrunIdentifier = "TORCHELASTIC_RUN_ID"

    /// Variables of a platform's machines or pods, and how many there are: not of processes.
    static let machines = [
        (rank: "PET_NODE_RANK", count: "PET_NNODES"), (rank: "PET_RANK", count: "PET_NNODES"),
        (rank: "NODE_RANK", count: "NNODES"),
    ]

    /// Numbers, from 1, of tasks that a batch system's own means start (pbsdsh, blaunch). A job's script is the first.
    static let batchTasks = ["PBS_TASKNUM", "LSF_PM_TASKID"]

    /// Where a batch system says which element of an array this is.
    static let arrayIndices = [
        "SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "SGE_TASK_ID", "LSB_JOBINDEX",
        "JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX",
    ]
}

/// What one launcher's variables say of this process.
struct TaskClaim {
    /// The launcher's name.
    let launcher: String
    /// Rank, world and their share on this machine.
    let placement: RankPlacement
    /// "PMI_RANK is 3 and PMI_SIZE is 4".
    let words: String
    /// Whether nobody but the launcher can have set them for this process.
    var isCertain = false

    /// Reads `launcher`'s variables; nil where rank or size is not set. Throws `UsageError` where they are no numbers
    /// or contradict each other.
    init?(_ launcher: TaskLauncher, _ environment: [String: String]) throws {
        guard let rank = environment[launcher.rank],
            let worldName = launcher.worldSize.first(where: { environment[$0] != nil })
        else { return nil }
        self.launcher = launcher.name
        let worldSize = environment[worldName]!
        let machines = launcher.machineCount.flatMap { environment[$0] }.flatMap { Int($0) } ?? 0
        let evenly = machines > 0 ? Int(worldSize).map { ($0 + machines - 1) / machines } : nil
        placement = try TaskClaim.placement(
            launcher.name, rank: (launcher.rank, rank), worldSize: (worldName, worldSize),
            localCount: TaskClaim.number(environment, launcher.localCount) ?? evenly,
            localRank: TaskClaim.number(environment, launcher.localRank))
        words = "\(launcher.rank) is \(rank) and \(worldName) is \(worldSize)"
        isCertain =
            launcher.name == "torchrun" && environment[TaskLauncher.torchrunIdentifier] != nil
    }

    /// A claim that was read otherwise.
    init(launcher: String, placement: RankPlacement, words: String, isCertain: Bool) {
        (self.launcher, self.placement) = (launcher, placement)
        (self.words, self.isCertain) = (words, isCertain)
    }

    /// The first of the variables `names` that is set, if it is a number of at least 0.
    private static func number(_ environment: [String: String], _ names: [String]) -> Int? {
        names.lazy.compactMap { environment[$0] }.first.flatMap { Int($0) }
            .flatMap { $0 >= 0 ? $0 : nil }
    }

    /// Checks the numbers as the variables spell them. Throws `UsageError`.
    static func placement(
        _ launcher: String, rank: (name: String, value: String),
        worldSize: (name: String, value: String), localCount: Int?, localRank: Int?
    ) throws -> RankPlacement {
        // A world of one counts as none, whatever its rank is said to be.
        if worldSize.value == "1" { return RankPlacement() }
        guard let number = Int(rank.value), let count = Int(worldSize.value) else {
            throw UsageError(
                "--rank",
                "\(rank.name)=\(rank.value) and \(worldSize.name)=\(worldSize.value) (\(launcher)) are not both whole numbers; correct them or give --rank and --world_size"
            )
        }
        return try placement(
            rank: (rank.name, number), worldSize: (worldSize.name, count),
            localCount: localCount, localRank: localRank)
    }

    /// Checks the numbers against each other. Throws `UsageError`.
    static func placement(
        rank: (name: String, value: Int), worldSize: (name: String, value: Int),
        localCount: Int? = nil, localRank: Int? = nil
    ) throws -> RankPlacement {
        guard worldSize.value >= 1 else {
            throw UsageError(
                "--world_size", "\(worldSize.name) is \(worldSize.value); give at least 1")
        }
        guard (0..<worldSize.value).contains(rank.value) else {
            throw UsageError(
                "--rank",
                "\(rank.name) is \(rank.value), which is not in 0 to \(worldSize.value - 1) (\(worldSize.name) is \(worldSize.value)); ranks count from 0"
            )
        }
        return RankPlacement(
            rank: rank.value, worldSize: worldSize.value,
            localCount: min(max(1, localCount ?? 1), worldSize.value), localRank: localRank ?? 0)
    }
}
