// The launchers that start several processes of one command, and the variables with the number of each process.

/// A launcher that sets a number for each of its tasks. If several variables are listed for one value, the first one
/// that is set is used.
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
    /// At least one of these variables must be set besides rank and world size. Otherwise another program may have
    /// set rank and world size. If the list is empty, no further variable is needed.
    var signs: [String] = []

    /// All launchers except Slurm, for which see `SlurmStep`. A launcher comes before the launchers that may have
    /// started it. For example, `mpirun` may start one `torchrun` on each machine.
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
        // PALS may leave the number of tasks to a variable of PMI.
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

    /// torchrun sets this variable for its workers. It proves that torchrun has started the process, because users do
    /// not set it.
    static let torchrunIdentifier = "TORCHELASTIC_RUN_ID"

    /// Pairs of variables: the number of this machine or pod, and the count of machines or pods. They do not number
    /// processes.
    static let machines = [
        (rank: "PET_NODE_RANK", count: "PET_NNODES"), (rank: "PET_RANK", count: "PET_NNODES"),
        (rank: "NODE_RANK", count: "NNODES"),
    ]

    /// Variables with the task number, from 1, of tasks that a batch system starts (pbsdsh, blaunch). The job's
    /// script is task 1.
    static let batchTasks = ["PBS_TASKNUM", "LSF_PM_TASKID"]

    /// Variables with the index of this job in a job array.
    static let arrayIndices = [
        "SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "SGE_TASK_ID", "LSB_JOBINDEX",
        "JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX",
    ]
}
