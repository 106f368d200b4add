// Which task of a Slurm step this process is. Slurm's variables are inherited by whatever a task or a batch script starts,
// by shells and by jobs that are submitted from within a job, and srun -E passes the job's numbers for the step's.

import FoundationEssentials
import Glibc
import Planning

/// What Slurm's variables and processes say.
struct SlurmStep {
    /// The claim of a task that srun started; nil where this process is none.
    private(set) var claim: TaskClaim?
    /// How many tasks were asked for, though this process is none of them.
    private(set) var askedTasks: String?
    /// Why this process is none of them.
    private(set) var reason = "this process was not started by srun"
    /// Where the step's number of tasks is not the job's.
    private(set) var warning: String?

    /// `ancestor` is the step of the Slurm daemon above this process, "0" or "batch", where it can be seen; `process` is
    /// this process' number. Throws `UsageError`.
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
                "SLURM_NTASKS is \(job), but this step has \(own) tasks (SLURM_STEP_NUM_TASKS): the authors are shared out among the step's"
        }
        claim = TaskClaim(
            launcher: "srun", placement: placement,
            words: "SLURM_PROCID is \(rank) of \(tasks) tasks",
            isCertain: environment["SLURM_TASK_PID"] == "\(process)")
    }

    /// Whether something between srun and this process has passed the step's variables on.
    private mutating func isInherited(
        _ environment: [String: String], _ ancestor: () -> String?
    ) -> Bool {
        // Task 0 alone has the terminal, and a shell on it starts one process at a time.
        if environment.keys.contains(where: { $0.hasPrefix("SLURM_PTY_") }) {
            reason = "this process was started from a shell on srun's terminal (--pty)"
            return true
        }
        // The tasks on this machine by number, written anew for each step and batch script, and how many the step has here.
        if let numbers = environment["SLURM_GTIDS"], let here = SlurmStep.tasksHere(environment),
            numbers.split(separator: ",").count != here
        {
            return true
        }
        return ancestor().map { !SlurmStep.isNumbered($0) } ?? false
    }

    /// Slurm numbers the batch script's own and an interactive shell's steps from the top of 32 bits (slurm.h,
    /// SLURM_BATCH_SCRIPT and its neighbours), and names them in a daemon's title.
    private static func isNumbered(_ step: String) -> Bool {
        UInt32(step).map { $0 < 0xFFFF_FFF0 } ?? false
    }

    /// The step's tasks on this machine: Slurm writes "2(x3),1" for two on each of three machines and one on a fourth.
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

    /// The step of the nearest daemon of Slurm above this process, from its title "slurmstepd: [4.0]"; nil where none is
    /// seen, as in a container with process numbers of its own.
    static func daemonAbove() -> String? {
        var process = getppid()
        // Numbers may not lead upwards for ever where processes come and go meanwhile.
        for _ in 0..<64 where process > 1 {
            let title = text("/proc/\(process)/cmdline")
            if title.hasPrefix("slurmstepd: ["), let end = title.firstIndex(of: "]") {
                return title[..<end].split(separator: ".").last.map(String.init)
            }
            // The name, in parentheses, may hold anything; behind it come the state and the parent.
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
