// One process for each worker: this program again, with its task on standard input. Never a fork without an exec: what
// threads and drivers hold does not survive one.

import CUDA
import Extraction
import FoundationEssentials
import Glibc
import Logging
import Subprocess
import Synchronization
import SystemPackage
import Tensors
import Threading

/// How a worker ended.
enum WorkerEnd: Equatable {
    case done
    case stopped
    /// Its own exit code where it ended by itself, and what there is to say, in lines.
    case failed(status: Int32?, message: [String])
}

/// Why no workers can be started.
enum LauncherError: Error, CustomStringConvertible {
    /// Address space is limited too tightly for the threads that wait for workers.
    case noMemory(bytes: Int)
    /// libdispatch looks up there which of its threads run, and ends the process where it cannot.
    case noProc
    /// The system gives no thread.
    case noThread(reason: String)
    /// The system does not give as many threads and processes as are needed.
    case noTasks(count: Int, reason: String)
    /// Fewer files may be open than the pipes to `workers` need; without any, to a child that is asked for devices.
    case noFiles(limit: Int, needed: Int, workers: Int)

    var description: String {
        switch self {
        case .noMemory(let bytes):
            "cannot reserve \(bytes >> 20) MiB of memory to start workers; raise the limit (ulimit -v, or the job's memory)"
        case .noProc:
            "/proc is not there or cannot be read, and only inspect, verify, report and help can do without it; mount it (mount -t proc proc /proc, or the sandbox's own way)"
        case .noThread(let reason):
            "cannot start a thread: \(reason); end other processes, or raise the limit"
        case .noTasks(let count, let reason):
            "cannot start \(count) threads and processes, as many as this command may need besides those that it has: \(reason); end other processes, give fewer --threads and --workers, or raise the limit"
        case .noFiles(let limit, let needed, let workers):
            "\(limit) files may be open at once (ulimit -n), but \(workers > 0 ? "\(workers) \(workers == 1 ? "worker needs" : "workers need")" : "this command needs") \(needed); raise the limit (ulimit -n \(needed)\(workers > 1 ? ", ulimit -Hn for the highest there may be), or give fewer --workers" : ", ulimit -Hn for the highest there may be)")"
        }
    }
}

/// Runs the workers of one invocation.
final class Launcher: Sendable {
    private let tasks: [WorkerTask]
    private let logLevel: Logger.Level
    private let control: StopControl
    private let log: Logger
    /// Told of each worker's end, by its place among the tasks.
    private let ended: @Sendable (Int, WorkerEnd) -> Void
    /// Told of every event, one at a time.
    private let handler: @Sendable (WorkerEvent, _ rank: Int) -> Void

    /// How long a worker may be stopped (SIGSTOP) before it counts as lost.
    private let stopLimit: Int
    /// The kernels that workers on the processor are to ask OpenBLAS for.
    private let kernels: String?

    init(
        _ tasks: [WorkerTask], environment: [String: String], logLevel: Logger.Level,
        control: StopControl, log: Logger, stopLimit: Int,
        ended: @escaping @Sendable (Int, WorkerEnd) -> Void,
        handler: @escaping @Sendable (WorkerEvent, _ rank: Int) -> Void
    ) {
        (self.tasks, self.logLevel, self.control) = (tasks, logLevel, control)
        (self.log, self.stopLimit) = (log, stopLimit)
        (self.ended, self.handler) = (ended, handler)
        kernels = tasks.contains { $0.device == nil } ? OpenBLASKernels.preferred(environment) : nil
        if let kernels {
            log.info(
                "OpenBLAS' kernels: \(kernels), which suit this processor better than its own choice; \(OpenBLASKernels.variable) sets others"
            )
        }
    }

    /// What a worker's environment has otherwise than this process' own: on the device `token` or, without, on the
    /// processor, with `kernels` of OpenBLAS' if it is not to choose.
    static func environment(token: String?, kernels: String?) -> [String: String?] {
        // A worker sees its own device alone, as the first; on the CPU, none.
        var changes: [String: String?] = ["CUDA_VISIBLE_DEVICES": token ?? ""]
        if token == nil, let kernels { changes[OpenBLASKernels.variable] = kernels }
        return changes
    }

    /// The environment of a child of this program's: this process' own with `changes`, and without what tells the Hub's token, for no
    /// child has anything to say to the Hub.
    static func inherited(with changes: [String: String?]) -> Environment {
        let tokens = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"]
        var all: [Environment.Key: String?] = [:]
        for (name, value) in changes { all[Environment.Key(stringLiteral: name)] = .some(value) }
        for name in tokens { all[Environment.Key(stringLiteral: name)] = .some(nil) }
        return .inherit.updating(all)
    }

    /// What the threads of Swift's and Subprocess' runtimes take of the address space, stacks above all.
    private static let threadSpace = 160 << 20

    /// Fails where the runtime could not start its threads: it would wait for ever. Throws `LauncherError`.
    static func checkMemory() throws {
        let room = mmap(
            nil, threadSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard room != MAP_FAILED else { throw LauncherError.noMemory(bytes: threadSpace) }
        munmap(room, threadSpace)
    }

    /// Files that this process has open with each child, and besides.
    private static let files = (eachChild: 8, own: 32)

    /// Fails where fewer files may be open than `workers` need or, without any, a child that is asked for devices: Subprocess
    /// ends the process where it cannot make a pipe. Throws `LauncherError`.
    private static func checkFiles(workers: Int) throws {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        let needed = files.own + files.eachChild * max(1, workers)
        guard limit.rlim_cur < rlim_t(needed) else { return }
        throw LauncherError.noFiles(limit: Int(limit.rlim_cur), needed: needed, workers: workers)
    }

    /// Fails where the system does not give the threads and processes that `workers` need and that wait for them or,
    /// without, for a child that is asked for devices. Throws `LauncherError`.
    static func checkTasks(_ workers: [WorkerTask] = [], asksHub: Bool = false) throws {
        guard access("/proc/self/task", R_OK | X_OK) == 0 else { throw LauncherError.noProc }
        try checkFiles(workers: workers.count)
        // This one, that which hears of signals, libdispatch's pool, which is as large as the machine if there is work for
        // it, and those of Subprocess, libdispatch itself and the display. Four downloads have one each, and one
        // to look up the host's name.
        let cores = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let own = 8 + min(cores, 3 * max(1, workers.count) + 1) + (asksHub ? 8 : 0)
        let children = workers.isEmpty ? 1 : workers.reduce(0) { $0 + $1.taskCount }
        // Some of them may be there already.
        let count = max(0, own + children - TaskLimits.ownThreads)
        if let reason = TaskLimits.reasonAgainst(count) {
            throw LauncherError.noTasks(count: count, reason: reason)
        }
    }

    /// Starts all workers and returns when all have ended, with their ends in the tasks' order.
    func run() async -> [WorkerEnd] {
        await withTaskGroup(of: (Int, WorkerEnd).self) { group in
            for (index, task) in tasks.enumerated() {
                group.addTask { (index, await self.run(task)) }
            }
            var ends = [WorkerEnd](repeating: .done, count: tasks.count)
            for await (index, end) in group {
                ends[index] = end
                ended(index, end)
                if case .failed(_, let message) = end, tasks.count > 1 {
                    log.error("\(message.joined(separator: " / ")); the other workers go on")
                }
            }
            return ends
        }
    }

    /// What is known of a worker while it runs.
    private struct Status {
        var author: String?
        var failure: (status: Int32, message: [String])?
        var lastWords = LastWords()
        var secondsStopped = 0
    }

    private final class SharedStatus: Sendable {
        let value = Mutex(Status())
    }

    private func run(_ task: WorkerTask) async -> WorkerEnd {
        let status = SharedStatus()
        let kills = KernelKills()
        do {
            var order = Array(
                try JSONEncoder().encode(WorkerOrder(task: task, logLevel: logLevel)))
            order.append(0x0A)
            let result = try await Subprocess.run(
                .path("/proc/self/exe"),
                arguments: Arguments(
                    executablePathOverride: "sae-extract", remainingValues: [WorkerEntry.argument]),
                environment: Launcher.inherited(
                    with: Launcher.environment(token: task.device?.token, kernels: kernels)),
                input: .inputWriter, output: .sequence, error: .sequence
            ) { [order] execution in
                let process = execution.processIdentifier.value
                self.control.add(process)
                let watching = Task {
                    await self.watch(process, status)
                }
                defer { watching.cancel() }
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        let lines = execution.standardOutput.strings(
                            separatedBy: .unicodeScalarSequence(["\n"]), bufferingPolicy: .unbounded
                        )
                        try? await self.readEvents(lines, task, status)
                    }
                    group.addTask {
                        let lines = execution.standardError.strings(
                            separatedBy: .unicodeScalarSequence(["\n"]), bufferingPolicy: .unbounded
                        )
                        try? await self.relay(lines, task, status)
                    }
                    group.addTask {
                        // A worker that has died does not read; its end says why.
                        _ = try? await execution.standardInputWriter.write(order)
                    }
                }
            }
            return end(result.terminationStatus, task, status.value.withLock { $0 }, kills)
        } catch {
            return .failed(
                status: ExitStatus.ioError.rawValue,
                message: [
                    "\(name(of: task, nil)): cannot be started: \(error)\(TaskLimits.ofThisProcess.known.map { " (\($0))" } ?? ""); check the limits on processes and memory (ulimit -a)"
                ])
        }
    }

    private func readEvents(
        _ lines: SubprocessOutputSequence.StringSequence<UTF8>, _ task: WorkerTask,
        _ status: SharedStatus
    ) async throws {
        let decoder = JSONDecoder()
        for try await line in lines {
            log.trace("rank \(task.rank): \(line)")
            guard let event = try? decoder.decode(WorkerEvent.self, from: Data(line.utf8)) else {
                log.warning("rank \(task.rank): cannot make sense of '\(line)'")
                continue
            }
            switch event {
            case .author(let name): status.value.withLock { $0.author = name }
            case .failed(let code, let message):
                status.value.withLock { $0.failure = (code, message) }
            default: break
            }
            handler(event, task.rank)
        }
    }

    /// The worker's log, as it comes. What it did not write as a log line gets the rank too.
    private func relay(
        _ lines: SubprocessOutputSequence.StringSequence<UTF8>, _ task: WorkerTask,
        _ status: SharedStatus
    ) async throws {
        let prefix = task.worldSize > 1 ? "[rank \(task.rank)] " : ""
        for try await line in lines {
            writeErrorLine((line.utf8.starts(with: prefix.utf8) ? "" : prefix) + line)
            status.value.withLock { $0.lastWords.add(line) }
        }
    }

    // MARK: Watching

    /// Ends a worker that has been stopped for too long. Seconds are counted by looking, not by the clock, so
    /// that a whole job that is suspended and resumed loses nothing.
    private func watch(_ process: pid_t, _ status: SharedStatus) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(1))
            let isStopped = ProcessState(process) == .stopped
            let seconds = status.value.withLock {
                $0.secondsStopped = isStopped ? $0.secondsStopped + 1 : 0
                return $0.secondsStopped
            }
            if seconds >= stopLimit {
                kill(process, SIGKILL)
                return
            }
        }
    }

    // MARK: Ends

    private func name(of task: WorkerTask, _ author: String?) -> String {
        let rank = task.worldSize > 1 ? "rank \(task.rank)" : "worker"
        let device = task.device.map { "cuda \($0.token), \($0.name)" } ?? "cpu"
        return "\(rank) (\(device))" + (author.map { ", author '\($0)'" } ?? "")
    }

    private func end(
        _ termination: TerminationStatus, _ task: WorkerTask, _ status: Status, _ kills: KernelKills
    ) -> WorkerEnd {
        let name = name(of: task, status.author)
        let words = status.lastWords.description
        let lastWords = words.isEmpty ? "" : "; it last said: \(words)"
        switch termination {
        case .exited(0): return .done
        case .exited(ExitStatus.stopped.rawValue): return .stopped
        case .exited(let code):
            if let failure = status.failure {
                let isAlone = task.worldSize == 1
                return .failed(
                    status: failure.status,
                    message: isAlone ? failure.message : failure.message.after("\(name): "))
            }
            // One that got no thread to tell its parent by has said so in its log.
            let isRefused = code == ExitStatus.ioError.rawValue
            return .failed(
                status: isRefused ? code : nil,
                message: ["\(name): exited with code \(code)\(lastWords)"])
        case .signaled(let signal):
            // A scheduler's signal can come before the worker is ready for it.
            if control.signal != nil, StopSignals.all.contains(signal) { return .stopped }
            let reason =
                status.secondsStopped >= stopLimit
                ? "was stopped (SIGSTOP) for \(stopLimit) seconds and has been ended; find out who stopped it"
                : "was ended by \(StopSignals.name(signal)): \(cause(signal, kills, status.lastWords))"
            return .failed(status: nil, message: ["\(name): \(reason)\(lastWords)"])
        }
    }

    private func cause(_ signal: Int32, _ kills: KernelKills, _ words: LastWords) -> String {
        if signal == SIGKILL {
            return kills.haveHappened
                ? "the kernel has killed processes for want of memory meanwhile; run the same command again with fewer --workers or more memory"
                : "somebody killed it, or the system for want of memory (see dmesg, or sacct's MaxRSS); run the same command again, with more memory if that was it"
        }
        if signal == SIGBUS {
            return
                "a mapped file, of the checkpoint or an SAE, became shorter or its disk failed; check --model_path and --sae_dir"
        }
        // Swift ends a process so where a check fails: by an instruction that no processor knows.
        if [SIGILL, SIGTRAP, SIGABRT].contains(signal),
            words.failure != nil || words.crashIsInSwift
        {
            let mistake =
                "a check within the program failed, which is a mistake of it; please report it"
            return memoryLimit.map { "\(mistake). Or its memory: \($0)" } ?? mistake
        }
        if signal == SIGILL {
            let either =
                "a check within the program failed, or this processor does not know an instruction"
            if let kernels {
                return
                    "\(either), perhaps of OpenBLAS' kernels \(kernels); set \(OpenBLASKernels.variable)=Haswell, and please report it with the processor's name"
            }
            let asked = getenv(OpenBLASKernels.variable).map { String(cString: $0) } ?? ""
            return asked.isEmpty
                ? "\(either); please report it with the processor's name and what the worker said"
                : "\(either), perhaps of the kernels that \(OpenBLASKernels.variable)=\(asked) asks for; unset that variable"
        }
        return memoryLimit ?? "a crash; please report it"
    }

    /// What is to be said of the limit on address space; nil where there is none.
    private var memoryLimit: String? {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0,
            limit.rlim_cur != rlim_t.max
        else { return nil }
        return
            "its memory is limited to \(limit.rlim_cur >> 10) kB (ulimit -v), which is probably not enough; raise the limit"
    }
}

/// What the kernel says of a process (`/proc/PID/stat`, proc(5)).
private enum ProcessState {
    case stopped
    case other

    init(_ process: pid_t) {
        let text = (try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)) ?? ""
        // The state is the first field after the name, which is in parentheses and may contain any.
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        self = fields.count > 1 && fields[1] == "T" ? .stopped : .other
    }
}

/// Whether the kernel has killed processes for want of memory since (`/proc/vmstat`).
private struct KernelKills {
    private let before = KernelKills.count

    private static var count: Int? {
        let text = try? String(contentsOfFile: "/proc/vmstat", encoding: .utf8)
        let line = text?.split(separator: "\n").first { $0.hasPrefix("oom_kill ") }
        return line?.split(separator: " ").last.flatMap { Int($0) }
    }

    var haveHappened: Bool { KernelKills.count ?? 0 > before ?? 0 }
}
