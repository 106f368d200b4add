// The launchers that start several processes of one command, and the variables in which they number the processes.

/// A launcher, with the names of the variables that it sets for each task. If a list has several variables, the first
/// one that is set counts.
struct JobLauncher {
    /// The name that users know.
    let name: String
    /// The variable with the task's number, from 0.
    let rank: String
    /// The variables with the number of tasks. Empty if the launcher sets none.
    let worldSize: [String]
    /// The variables with the number of tasks on this machine.
    var localCount: [String] = []
    /// The variables with the task's number on this machine, from 0.
    var localRank: [String] = []
    /// The variable with the number of machines, for launchers without `localCount`.
    var machineCount: String?
    /// One of these variables must also be set. Otherwise another program may have set `rank` and `worldSize`. If the
    /// list is empty, no further variable is needed.
    var signs: [String] = []

    /// All launchers except Slurm (see `SlurmStep`), inner launchers first. For example, `mpirun` may start a
    /// `torchrun` on each machine, so torchrun comes first.
    static let all = [
        JobLauncher(
            name: "torchrun", rank: "RANK", worldSize: ["WORLD_SIZE"],
            localCount: ["LOCAL_WORLD_SIZE", "LOCAL_SIZE"], localRank: ["LOCAL_RANK"],
            signs: ["LOCAL_RANK", JobLauncher.torchrunIdentifier]),
        JobLauncher(
            name: "Horovod", rank: "HOROVOD_RANK", worldSize: ["HOROVOD_SIZE"],
            localCount: ["HOROVOD_LOCAL_SIZE"], localRank: ["HOROVOD_LOCAL_RANK"]),
        JobLauncher(
            name: "Open MPI", rank: "OMPI_COMM_WORLD_RANK", worldSize: ["OMPI_COMM_WORLD_SIZE"],
            localCount: ["OMPI_COMM_WORLD_LOCAL_SIZE"], localRank: ["OMPI_COMM_WORLD_LOCAL_RANK"]),
        JobLauncher(
            name: "MVAPICH", rank: "MV2_COMM_WORLD_RANK", worldSize: ["MV2_COMM_WORLD_SIZE"],
            localCount: ["MV2_COMM_WORLD_LOCAL_SIZE"], localRank: ["MV2_COMM_WORLD_LOCAL_RANK"]),
        JobLauncher(
            name: "jsrun", rank: "JSM_NAMESPACE_RANK", worldSize: ["JSM_NAMESPACE_SIZE"],
            localCount: ["JSM_NAMESPACE_LOCAL_SIZE"], localRank: ["JSM_NAMESPACE_LOCAL_RANK"]),
        // If PALS does not set PALS_SIZE, a variable of PMI has the number of tasks.
        JobLauncher(
            name: "PALS", rank: "PALS_RANKID", worldSize: ["PALS_SIZE", "PMI_SIZE"],
            localCount: ["PALS_LOCAL_SIZE", "PMI_LOCAL_SIZE"], localRank: ["PALS_LOCAL_RANKID"]),
        JobLauncher(
            name: "Flux", rank: "FLUX_TASK_RANK", worldSize: ["FLUX_JOB_SIZE"],
            localRank: ["FLUX_TASK_LOCAL_ID"], machineCount: "FLUX_JOB_NNODES"),
        // Hydra, the launcher of MPICH and Intel MPI, and all other launchers with PMI variables.
        JobLauncher(
            name: "PMI", rank: "PMI_RANK", worldSize: ["PMI_SIZE"],
            localCount: ["MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"],
            localRank: ["MPI_LOCALRANKID", "PMI_LOCAL_RANK"]),
        JobLauncher(
            name: "Platform MPI", rank: "MPI_RANKID", worldSize: ["MPI_NRANKS"],
            localCount: ["MPI_LOCALNRANKS"], localRank: ["MPI_LOCALRANKID"]),
        // PMIx and ALPS set no variable with the number of tasks.
        JobLauncher(name: "PMIx", rank: "PMIX_RANK", worldSize: []),
        JobLauncher(name: "ALPS", rank: "ALPS_APP_PE", worldSize: []),
    ]

    /// If this variable is set, torchrun has started the process. Users do not set it themselves.
    static let torchrunIdentifier = "TORCHELASTIC_RUN_ID"

    /// Pairs of variables that number machines or pods, not processes: the number of this machine, and the number of
    /// all machines.
    static let machines = [
        (rank: "PET_NODE_RANK", count: "PET_NNODES"), (rank: "PET_RANK", count: "PET_NNODES"),
        (rank: "NODE_RANK", count: "NNODES"),
    ]

    /// Variables with a task's number, from 1, in batch systems that can start tasks (pbsdsh, blaunch). Task 1 is the
    /// job's script.
    static let batchTasks = ["PBS_TASKNUM", "LSF_PM_TASKID"]

    /// Variables with the index of this job in a job array.
    static let arrayIndices = [
        "SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "SGE_TASK_ID", "LSB_JOBINDEX",
        "JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX",
    ]
}
