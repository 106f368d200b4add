// Which rank this process is, from its flags or from what started it.

import Extraction

/// What a scheduler's variables say, and what is to be said of them.
struct SchedulerPlacement: Equatable {
    var placement = RankPlacement()
    /// Where rank and world come from: "--rank", "torchrun", …
    var source: String?
    /// Something a user may want to know.
    var notes: [String] = []
    /// Something that is probably not what a user wants.
    var warnings: [String] = []

    static func == (a: SchedulerPlacement, b: SchedulerPlacement) -> Bool {
        a.placement == b.placement && a.source == b.source && a.notes == b.notes
            && a.warnings == b.warnings
    }
}

extension SchedulerPlacement {
    /// One of the schedulers that number their tasks.
    private struct Scheduler {
        let name: String
        let rank: String
        let worldSize: String
        /// Tasks on this machine, and which of them this is.
        let localCount: String
        let localRank: String
    }

    private static let schedulers = [
        Scheduler(
            name: "torchrun", rank: "RANK", worldSize: "WORLD_SIZE", localCount: "LOCAL_WORLD_SIZE",
            localRank: "LOCAL_RANK"),
        Scheduler(
            name: "Open MPI", rank: "OMPI_COMM_WORLD_RANK", worldSize: "OMPI_COMM_WORLD_SIZE",
            localCount: "OMPI_COMM_WORLD_LOCAL_SIZE", localRank: "OMPI_COMM_WORLD_LOCAL_RANK"),
        Scheduler(
            name: "srun", rank: "SLURM_PROCID", worldSize: "SLURM_NTASKS",
            localCount: "SLURM_STEP_TASKS_PER_NODE", localRank: "SLURM_LOCALID"),
    ]

    /// Flags first, then torchrun, Open MPI, srun; a world of one counts as none. Throws `UsageError`.
    init(rank: Int?, worldSize: Int?, environment: [String: String]) throws {
        if rank != nil || worldSize != nil {
            guard let rank, let worldSize else {
                throw UsageError(
                    rank == nil ? "--rank" : "--world_size",
                    "is missing: --rank and --world_size go together")
            }
            try SchedulerPlacement.check(rank, worldSize, flag: "--rank", "--rank", "--world_size")
            placement = RankPlacement(rank: rank, worldSize: worldSize)
            source = "--rank"
            return
        }
        for scheduler in SchedulerPlacement.schedulers {
            guard let rank = environment[scheduler.rank],
                let worldSize = environment[scheduler.worldSize], worldSize != "1"
            else { continue }
            if scheduler.name == "srun", !SchedulerPlacement.isStep(environment) {
                warnings.append(
                    "SLURM_NTASKS is \(worldSize), but this process was not started by srun: it does all authors by itself. To share them out, start it with srun, or give --rank and --world_size"
                )
                continue
            }
            guard let rank = Int(rank), let worldSize = Int(worldSize) else {
                throw UsageError(
                    "--rank",
                    "\(scheduler.rank)=\(rank) and \(scheduler.worldSize)=\(worldSize) (\(scheduler.name)) are not both whole numbers; correct them or give --rank and --world_size"
                )
            }
            try SchedulerPlacement.check(
                rank, worldSize, flag: "--rank", scheduler.rank, scheduler.worldSize)
            // Slurm writes "2(x3)" for two tasks on each of three machines.
            let local = environment[scheduler.localCount]?.prefix { $0.isNumber }
            placement = RankPlacement(
                rank: rank, worldSize: worldSize,
                localCount: local.flatMap { Int($0) }.map { max(1, $0) } ?? 1,
                localRank: environment[scheduler.localRank].flatMap { Int($0) } ?? 0)
            source = scheduler.name
            return
        }
        if let task = environment["SLURM_ARRAY_TASK_ID"] {
            notes.append(
                "array task \(task) without --rank and --world_size: this task does all authors (right for an array over layers)"
            )
        }
    }

    private static func check(
        _ rank: Int, _ worldSize: Int, flag: String, _ rankName: String, _ worldName: String
    ) throws {
        guard worldSize >= 1 else {
            throw UsageError("--world_size", "\(worldName) is \(worldSize); give at least 1")
        }
        guard (0..<worldSize).contains(rank) else {
            throw UsageError(
                flag,
                "\(rankName) is \(rank), which is not in 0 to \(worldSize - 1) (\(worldName) is \(worldSize)); ranks count from 0"
            )
        }
    }

    /// Whether this is a task of a job step. Slurm numbers the batch script's own and an interactive shell's
    /// steps from the top of 32 bits (slurm.h, SLURM_BATCH_SCRIPT and its neighbours).
    private static func isStep(_ environment: [String: String]) -> Bool {
        guard let text = environment["SLURM_STEP_ID"], let step = UInt32(text) else { return false }
        return step < 0xFFFF_FFF0
    }
}
