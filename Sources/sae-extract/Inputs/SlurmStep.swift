// The task number of this process in a Slurm step. Slurm's variables are inherited: by all processes that a task or a batch
// script starts, by shells, and by jobs that are submitted from a job. With `srun -E` the job's numbers stand in the step's
// variables.

import FoundationEssentials
import Glibc
import Planning

/// What Slurm's variables and processes say about this process.
struct SlurmStep {
    /// The task that srun started as this process. Nil: this process is not a task of srun.
    private(set) var claim: TaskClaim?
    /// The number of tasks of the job, if it has several and this process is not one of them. Nil otherwise.
    private(set) var askedTasks: String?
    /// Why this process is not one of these tasks.
    private(set) var reason = "this process was not started by srun"
    /// A warning if the step has another number of tasks than the job.
    private(set) var warning: String?

    /// `ancestor` returns the step of the Slurm daemon above this process, "0" or "batch"; nil if no daemon is visible. `process`
    /// is the number of this process. Throws `UsageError`.
    init(_ environment: [String: String], ancestor: () -> String?, process: Int32) throws {
        let job = environment["SLURM_NTASKS"] ?? environment["SLURM_NPROCS"]
        guard let step = environment["SLURM_STEP_ID"], let rank = environment["SLURM_PROCID"],
            SlurmStep.isNumbered(step), !isInherited(environment, ancestor)
        else {
            let isJob = environment["SLURM_PROCID"] ?? environment["SLURM_JOB_ID"] != nil
            let asked = job ?? environment["SLURM_STEP_NUM_TASKS"]
            askedTasks = isJob && asked != "1" ? asked : nil
            return
        }
        let own = environment["SLURM_STEP_NUM_TASKS"]
        guard let tasks = own ?? job else { return }
        let placement = try TaskClaim.placement(
            "srun", rank: ("SLURM_PROCID", rank),
            worldSize: (own == nil ? "SLURM_NTASKS" : "SLURM_STEP_NUM_TASKS", tasks),
            localCount: SlurmStep.tasksHere(environment),
            localRank: environment["SLURM_LOCALID"].flatMap { Int($0) })
        if let own, let job, own != job, placement.worldSize > 1 {
            warning =
                "SLURM_NTASKS is \(job), but this step has \(own) tasks (SLURM_STEP_NUM_TASKS): the authors are divided among the tasks of the step"
        }
        claim = TaskClaim(
            launcher: "srun", placement: placement,
            words: "SLURM_PROCID is \(rank) of \(tasks) tasks",
            isCertain: environment["SLURM_TASK_PID"] == "\(process)")
    }

    /// Returns whether a process between srun and this process has passed the step's variables on.
    private mutating func isInherited(
        _ environment: [String: String], _ ancestor: () -> String?
    ) -> Bool {
        // Only task 0 has the terminal, and a shell on the terminal starts one process at a time.
        if environment.keys.contains(where: { $0.hasPrefix("SLURM_PTY_") }) {
            reason = "this process was started from a shell on srun's terminal (--pty)"
            return true
        }
        // SLURM_GTIDS lists the tasks on this machine. Slurm writes it anew for each step and each batch script. If its length is
        // not the step's number of tasks here, it belongs to another step.
        if let numbers = environment["SLURM_GTIDS"], let here = SlurmStep.tasksHere(environment),
            numbers.split(separator: ",").count != here
        {
            return true
        }
        return ancestor().map { !SlurmStep.isNumbered($0) } ?? false
    }

    /// Returns whether `step` is a step of srun. The steps of a batch script and of an interactive shell have numbers near the
    /// top of 32 bits (slurm.h: SLURM_BATCH_SCRIPT and the next constants), and names in a daemon's title.
    private static func isNumbered(_ step: String) -> Bool {
        UInt32(step).map { $0 < 0xFFFF_FFF0 } ?? false
    }

    /// Returns the number of the step's tasks on this machine. Slurm writes "2(x3),1" for two tasks on each of three machines and
    /// one task on a fourth. Nil: unknown.
    static func tasksHere(_ environment: [String: String]) -> Int? {
        guard let text = environment["SLURM_STEP_TASKS_PER_NODE"] else { return nil }
        var node = environment["SLURM_NODEID"].flatMap { Int($0) } ?? 0
        for part in text.split(separator: ",") {
            guard let tasks = Int(part.prefix { $0.isNumber }) else { return nil }
            let times = part.firstIndex(of: "x").flatMap {
                Int(part[part.index(after: $0)...].prefix { $0.isNumber })
            }
            node -= times ?? 1
            if node < 0 { return tasks }
        }
        return nil
    }

    /// Returns the step of the nearest Slurm daemon above this process, from its title "slurmstepd: [4.0]". Nil: no daemon is
    /// visible, for example in a container with its own process numbers.
    static func daemonAbove() -> String? {
        var process = getppid()
        // The limit ends the loop if processes start and end meanwhile and their numbers lead nowhere.
        for _ in 0..<64 where process > 1 {
            let title = text("/proc/\(process)/cmdline")
            if title.hasPrefix("slurmstepd: ["), let end = title.firstIndex(of: "]") {
                return title[..<end].split(separator: ".").last.map(String.init)
            }
            // The name is in parentheses and may contain any character. The state and the parent's number follow it.
            let stat = text("/proc/\(process)/stat")
            let fields = stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].split(separator: " ")
            guard fields.count > 2, let parent = Int32(fields[2]) else { return nil }
            process = parent
        }
        return nil
    }

    private static func text(_ path: String) -> String {
        (try? Data(contentsOf: URL(filePath: path))).map { String(decoding: $0, as: UTF8.self) }
            ?? ""
    }
}
