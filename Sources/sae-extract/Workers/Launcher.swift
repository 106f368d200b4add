// Starts one process per worker. Each process is this program again, and reads its task from standard input. A worker
// needs exec, because threads and GPU drivers do not work after a fork alone.

import CPUBackend
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

/// Starts the workers of one invocation and waits for them.
final class Launcher: Sendable {
    private let tasks: [WorkerTask]
    private let logLevel: Logger.Level
    private let control: StopControl
    private let log: Logger
    /// Called when a worker has ended, with the index of its task.
    private let ended: @Sendable (Int, WorkerEnd) -> Void
    /// Called for each event of a worker. May be called from several threads at once.
    private let handler: @Sendable (WorkerEvent, _ rank: Int) -> Void

    /// Seconds that a worker may be stopped (SIGSTOP) before the parent kills it.
    private let stopLimit: Int
    /// The OpenBLAS kernel set for workers on the CPU. Nil if OpenBLAS chooses, or if all workers use CUDA.
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
                "OpenBLAS kernels: \(kernels), which suit this processor better than OpenBLAS' own choice; to use others, set \(OpenBLASKernels.variable)"
            )
        }
    }

    /// Starts all workers and waits until all have ended. Returns how each worker ended, in the order of the tasks.
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

    /// The facts that the parent knows of a running worker.
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
        let kills = OutOfMemoryKills()
        do {
            var order = Array(
                try JSONEncoder().encode(WorkerInput(task: task, logLevel: logLevel)))
            order.append(0x0A)
            let result = try await Subprocess.run(
                .path("/proc/self/exe"),
                arguments: Arguments(
                    executablePathOverride: "sae-extract", remainingValues: [WorkerEntry.argument]),
                environment: ChildEnvironment.inherited(
                    with: ChildEnvironment.worker(token: task.device?.token, kernels: kernels)),
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
                        // If the worker has ended, the write fails. The error is ignored: the exit status tells the
                        // reason.
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
                log.warning("rank \(task.rank): ignored a line that is not an event: '\(line)'")
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

    /// Writes the worker's log lines to standard error as they arrive. Puts the rank before lines that do not begin
    /// with it, such as lines of libraries.
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

    /// Kills a worker that is stopped (SIGSTOP) for `stopLimit` seconds. This process counts the seconds, so they do
    /// not count while a scheduler suspends the whole job.
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
        _ termination: TerminationStatus, _ task: WorkerTask, _ status: Status,
        _ kills: OutOfMemoryKills
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
                    message: isAlone ? failure.message : failure.message.prefixed(by: "\(name): "))
            }
            // If the system refuses a thread, the worker exits with this code and sends no event.
            let isRefused = code == ExitStatus.ioError.rawValue
            return .failed(
                status: isRefused ? code : nil,
                message: ["\(name): exited with code \(code)\(lastWords)"])
        case .signaled(let signal):
            // A signal from a scheduler ends a worker that does not handle signals yet.
            if control.signal != nil, StopSignals.all.contains(signal) { return .stopped }
            let reason =
                status.secondsStopped >= stopLimit
                ? "was stopped (SIGSTOP) for \(stopLimit) seconds, so it was killed; find out what stopped it, and run the same command again"
                : "was ended by \(StopSignals.name(signal)): \(cause(signal, kills, status.lastWords))"
            return .failed(status: nil, message: ["\(name): \(reason)\(lastWords)"])
        }
    }

    private func cause(_ signal: Int32, _ kills: OutOfMemoryKills, _ words: LastWords) -> String {
        if signal == SIGKILL {
            return kills.haveHappened
                ? "the kernel killed processes in the meantime because memory was short; run the same command again with fewer --workers or more memory"
                : "a user killed it, or the system because memory was short (see dmesg, or sacct's MaxRSS); run the same command again, with more memory if memory was short"
        }
        if signal == SIGBUS {
            return
                "a mapped file of the checkpoint or of an SAE became shorter, or its disk failed; check --model_path and --sae_dir"
        }
        // If a check fails, Swift code runs an invalid instruction, which ends the process.
        if [SIGILL, SIGTRAP, SIGABRT].contains(signal),
            words.failure != nil || words.crashIsInSwift
        {
            let bug = "a check within the program failed, which is a bug; please report it"
            return memoryLimit.map { "\(bug). Or memory was too short: \($0)" } ?? bug
        }
        if signal == SIGILL {
            let either =
                "a check within the program failed, or this processor does not know an instruction"
            if let kernels {
                return
                    "\(either), perhaps one of the OpenBLAS kernels \(kernels); set \(OpenBLASKernels.variable)=Haswell, and please report it with the processor's name"
            }
            let asked = getenv(OpenBLASKernels.variable).map { String(cString: $0) } ?? ""
            return asked.isEmpty
                ? "\(either); please report it with the processor's name and what the worker said"
                : "\(either), perhaps one of the kernels of \(OpenBLASKernels.variable)=\(asked); unset that variable"
        }
        return memoryLimit ?? "a crash; please report it"
    }

    /// A message about the limit on address space. Nil if there is no limit.
    private var memoryLimit: String? {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0,
            limit.rlim_cur != rlim_t.max
        else { return nil }
        return
            "its memory is limited to \(limit.rlim_cur >> 10) kB (ulimit -v), which is probably not enough; raise the limit"
    }
}
