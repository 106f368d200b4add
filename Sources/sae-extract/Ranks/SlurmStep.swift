// Finds out which task of a Slurm step this process is. Slurm's variables alone do not prove that srun started this
// process, because child processes and jobs that are submitted from a job inherit them. With `srun -E`, SLURM_NTASKS
// is the number of tasks of the job, not of the step.

import FoundationEssentials
import Glibc
import Planning

/// The task of a Slurm step that this process is, according to Slurm's variables and processes.
struct SlurmStep {
    /// Rank and world size from srun. Nil if this process is not a task of srun.
    private(set) var claim: RankClaim?
    /// The job's number of tasks, if the job has several tasks but this process is none of them. Otherwise nil.
    private(set) var askedTasks: String?
    /// The reason why this process is not one of the job's tasks, for a message.
    private(set) var reason = "this process was not started by srun"
    /// A warning, if the step and the job have different numbers of tasks.
    private(set) var warning: String?

    /// `ancestor` returns the step of the nearest Slurm daemon among this process' ancestors, such as "0" or "batch".
    /// It returns nil if no daemon is visible. `process` is the id of this process. Throws `UsageError`.
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
        let placement = try RankClaim.placement(
            "srun", rank: ("SLURM_PROCID", rank),
            worldSize: (own == nil ? "SLURM_NTASKS" : "SLURM_STEP_NUM_TASKS", tasks),
            localCount: SlurmStep.tasksHere(environment),
            localRank: environment["SLURM_LOCALID"].flatMap { Int($0) })
        if let own, let job, own != job, placement.worldSize > 1 {
            warning =
                "SLURM_NTASKS is \(job), but this step has \(own) tasks (SLURM_STEP_NUM_TASKS): the authors are divided among the tasks of the step"
        }
        claim = RankClaim(
            launcher: "srun", placement: placement,
            words: "SLURM_PROCID is \(rank) of \(tasks) tasks",
            isCertain: environment["SLURM_TASK_PID"] == "\(process)")
    }

    /// Returns whether this process has the step's variables from another process than srun. May set `reason`.
    private mutating func isInherited(
        _ environment: [String: String], _ ancestor: () -> String?
    ) -> Bool {
        // With `--pty`, srun starts a shell, and the shell starts this process. So this process is not a task.
        if environment.keys.contains(where: { $0.hasPrefix("SLURM_PTY_") }) {
            reason = "this process was started from a shell on srun's terminal (--pty)"
            return true
        }
        // SLURM_GTIDS lists the tasks on this machine. Slurm sets it for each step and each batch script. If it has
        // another number of tasks than the step, it belongs to another step. Then this process has inherited the
        // step's variables.
        if let numbers = environment["SLURM_GTIDS"], let here = SlurmStep.tasksHere(environment),
            numbers.split(separator: ",").count != here
        {
            return true
        }
        return ancestor().map { !SlurmStep.isNumbered($0) } ?? false
    }

    /// Returns whether srun has started `step`. Steps of srun have the numbers 0, 1, 2 and so on. Steps of batch
    /// scripts and interactive shells have numbers near 2^32 (SLURM_BATCH_SCRIPT in slurm.h). A daemon's title has
    /// names for them.
    private static func isNumbered(_ step: String) -> Bool {
        UInt32(step).map { $0 < 0xFFFF_FFF0 } ?? false
    }

    /// Returns the number of the step's tasks on this machine. Nil if it is unknown. Slurm writes "2(x3),1" for two
    /// tasks on each of three machines and one task on a fourth.
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

    /// Returns the Slurm step of the nearest ancestor process that is a slurmstepd. The title of a slurmstepd names
    /// job and step: for "slurmstepd: [4.0]", returns "0". Nil if no slurmstepd is visible, for example in a
    /// container with its own process ids.
    static func daemonAbove() -> String? {
        var process = getppid()
        // The limit of 64 ends the loop even if process ids are reused meanwhile.
        for _ in 0..<64 where process > 1 {
            let title = text("/proc/\(process)/cmdline")
            if title.hasPrefix("slurmstepd: ["), let end = title.firstIndex(of: "]") {
                return title[..<end].split(separator: ".").last.map(String.init)
            }
            // The second field of /proc/PID/stat is the process name in parentheses. The name may contain
            // parentheses, so the search begins at the last one. The state and the parent's id follow.
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
