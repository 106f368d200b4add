// The launchers that start several processes of one command, and the variables by which they number these processes.

/// A launcher that numbers its tasks. If there are several variables for one value, the first that is set counts.
struct TaskLauncher {
    /// The name that users know.
    let name: String
    /// The variable with the task's number, from 0.
    let rank: String
    /// The variables with the number of tasks. Empty: the launcher sets none.
    let worldSize: [String]
    /// The variables with the number of tasks on this machine.
    var localCount: [String] = []
    /// The variables with the task's number on this machine, from 0.
    var localRank: [String] = []
    /// The variable with the number of machines, for launchers without `localCount`.
    var machineCount: String?
    /// At least one of these must be set with rank and world size. Otherwise another program may have set those.
    var signs: [String] = []

    /// All launchers except Slurm, whose variables need more than a table. An inner launcher precedes those that may have started
    /// it: `srun` starts one `torchrun` or one daemon of `mpirun` on each machine.
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
        // PALS relies on PMI for the number of tasks.
        TaskLauncher(
            name: "PALS", rank: "PALS_RANKID", worldSize: ["PALS_SIZE", "PMI_SIZE"],
            localCount: ["PALS_LOCAL_SIZE", "PMI_LOCAL_SIZE"], localRank: ["PALS_LOCAL_RANKID"]),
        TaskLauncher(
            name: "Flux", rank: "FLUX_TASK_RANK", worldSize: ["FLUX_JOB_SIZE"],
            localRank: ["FLUX_TASK_LOCAL_ID"], machineCount: "FLUX_JOB_NNODES"),
        // Hydra, which is part of MPICH and Intel MPI, and all others with PMI variables.
        TaskLauncher(
            name: "PMI", rank: "PMI_RANK", worldSize: ["PMI_SIZE"],
            localCount: ["MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"],
            localRank: ["MPI_LOCALRANKID", "PMI_LOCAL_RANK"]),
        TaskLauncher(
            name: "Platform MPI", rank: "MPI_RANKID", worldSize: ["MPI_NRANKS"],
            localCount: ["MPI_LOCALNRANKS"], localRank: ["MPI_LOCALRANKID"]),
        // PMIx and ALPS give the number of tasks only to their libraries.
        TaskLauncher(name: "PMIx", rank: "PMIX_RANK", worldSize: []),
        TaskLauncher(name: "ALPS", rank: "ALPS_APP_PE", worldSize: []),
    ]

    /// torchrun sets this variable for its workers. Users do not set it by hand.
    static let torchrunIdentifier = "TORCHELASTIC_RUN_ID"

    /// Variables with the number of a machine or pod and with their count. They do not number processes.
    static let machines = [
        (rank: "PET_NODE_RANK", count: "PET_NNODES"), (rank: "PET_RANK", count: "PET_NNODES"),
        (rank: "NODE_RANK", count: "NNODES"),
    ]

    /// Task numbers, from 1, of a batch system's own means to start tasks (pbsdsh, blaunch). The job's script is task 1.
    static let batchTasks = ["PBS_TASKNUM", "LSF_PM_TASKID"]

    /// Variables with the index of this job in a job array.
    static let arrayIndices = [
        "SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "SGE_TASK_ID", "LSB_JOBINDEX",
        "JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX",
    ]
}
