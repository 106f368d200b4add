// The worker's main function: reads the task from standard input, and writes events to standard output. To start a
// worker by hand: `sae-extract __worker < task.json`.

import Extraction
import Files
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// The main function of a worker process.
enum WorkerEntry {
    /// The first command-line argument of a worker process.
    static let argument = "__worker"

    private static let stop = StopFlag()
    private static let hasTask = Atomic(false)

    /// Reads the task, carries it out and exits.
    static func main() -> Never {
        StopSignals.handle { _ in
            // Without a task, there is nothing to finish. The task never arrives if the parent gets no threads.
            guard hasTask.load(ordering: .sequentiallyConsistent) else {
                _exit(ExitStatus.stopped.rawValue)
            }
            stop.raise()
        }
        let input = LineReader(descriptor: STDIN_FILENO)
        let order: WorkerInput
        do {
            guard let line = input.next() else { throw WorkerInputError.none }
            order = try JSONDecoder().decode(WorkerInput.self, from: Data(line))
            hasTask.store(true, ordering: .sequentiallyConsistent)
        } catch {
            writeErrorLine(
                "Error: standard input has no task for a worker (\(error)); run sae-extract without \(argument)"
            )
            _exit(ExitStatus.usage.rawValue)
        }
        watch(input)
        let prefix = order.task.worldSize > 1 ? "[rank \(order.task.rank)] " : ""
        LoggingSystem.bootstrap { _ in StandardErrorLog(level: order.logLevel, prefix: prefix) }
        send(.started(process: getpid()))
        do {
            try carryOut(order.task, stop: stop, log: Logger(label: "sae-extract"), send: send)
            _exit(0)
        } catch is StopRequest {
            send(.stopped)
            _exit(ExitStatus.stopped.rawValue)
        } catch {
            let status = ExitStatus(for: error)
            send(.failed(status: status.rawValue, message: messageLines(error)))
            _exit(status.rawValue)
        }
    }

    /// Starts a thread that ends this process when the parent has ended or has closed the pipe. Finished batches stay
    /// in the journal.
    private static func watch(_ input: LineReader) {
        var info = stat()
        // If the task comes from a file, the end of standard input does not mean that the parent has ended.
        guard fstat(STDIN_FILENO, &info) == 0, [S_IFIFO, S_IFSOCK].contains(info.st_mode & S_IFMT)
        else { return }
        nonisolated(unsafe) let input = input
        startThread {
            while input.next() != nil {}
            _exit(ExitStatus.stopped.rawValue)
        }
    }

    /// Locked while an event is written, so that lines of several threads do not mix.
    private static let output = Mutex(())

    private static func send(_ event: WorkerEvent) {
        output.withLock { _ in write(event) }
    }

    private static func write(_ event: WorkerEvent) {
        guard let data = try? JSONEncoder().encode(event) else { return }
        let line = Array(data) + [0x0A]
        var rest = line[...]
        while !rest.isEmpty {
            waitForParent()
            let count = rest.withUnsafeBytes {
                Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count)
            }
            if count < 0, errno == EINTR { continue }
            // The parent has closed the pipe or has ended. The thread that `watch` started ends this process.
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }
}

extension WorkerEntry {
    /// The seconds that a worker waits for a parent that does not read, after a signal has asked the worker to stop.
    private static let patience = 3

    /// Waits until the pipe to the parent accepts data. Ends the process if it was asked to stop and the parent does
    /// not read. A parent never reads if the system refuses it threads.
    private static func waitForParent() {
        var seconds = 0
        var output = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
        while poll(&output, 1, 1000) == 0 {
            seconds = stop.isRaised ? seconds + 1 : 0
            if seconds >= patience { _exit(ExitStatus.stopped.rawValue) }
        }
    }
}
