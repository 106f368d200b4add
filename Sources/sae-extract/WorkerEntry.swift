// The worker's side of the pipe: its task comes on standard input, what it does goes to standard output.
// By hand: `sae-extract __worker < task.json`.

import Extraction
import Files
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// A process that carries out one task.
enum WorkerEntry {
    /// The argument that makes a process a worker.
    static let argument = "__worker"

    private static let stop = StopFlag()
    private static let hasTask = Atomic(false)

    /// Reads the task, carries it out, and exits.
    static func main() -> Never {
        StopSignals.handle { _ in
            // Its task may never come, where the parent gets no threads.
            guard hasTask.load(ordering: .sequentiallyConsistent) else {
                _exit(ExitStatus.stopped.rawValue)
            }
            stop.raise()
        }
        let input = LineReader(descriptor: STDIN_FILENO)
        let order: WorkerOrder
        do {
            guard let line = input.next() else { throw WorkerOrderError.none }
            order = try JSONDecoder().decode(WorkerOrder.self, from: Data(line))
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

    /// The parent holds the other end of standard input; when it is gone, so is the reason for the work. What
    /// is in the journal stays.
    private static func watch(_ input: LineReader) {
        var info = stat()
        // A task given by hand, in a file, ends like any file.
        guard fstat(STDIN_FILENO, &info) == 0, [S_IFIFO, S_IFSOCK].contains(info.st_mode & S_IFMT)
        else { return }
        nonisolated(unsafe) let input = input
        startThread {
            while input.next() != nil {}
            _exit(ExitStatus.stopped.rawValue)
        }
    }

    /// Lines are written whole, whichever thread they come from.
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
            // Nobody listens: the parent is gone, and the reader of standard input ends the process.
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }
}

extension WorkerEntry {
    /// Seconds that a worker which is to end waits for a parent that does not read.
    private static let patience = 3

    /// Returns once the parent can be written to. Ends the process where it was asked to end and the parent does not
    /// read: it may get no thread to do so by.
    private static func waitForParent() {
        var seconds = 0
        var output = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
        while poll(&output, 1, 1000) == 0 {
            seconds = stop.isRaised ? seconds + 1 : 0
            if seconds >= patience { _exit(ExitStatus.stopped.rawValue) }
        }
    }
}

/// What a parent writes to a worker's standard input, in one line.
struct WorkerOrder: Codable {
    let task: WorkerTask
    let logLevel: Logger.Level
}

private enum WorkerOrderError: Error {
    /// The input is empty.
    case none
}

/// Lines of a descriptor, as they come.
final class LineReader {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var searched = 0

    init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    /// The next line without its end; nil at the end of the input.
    func next() -> [UInt8]? {
        while true {
            if let end = buffer[searched...].firstIndex(of: 0x0A) {
                let line = Array(buffer[..<end])
                buffer.removeSubrange(...end)
                searched = 0
                return line
            }
            searched = buffer.count
            let chunk = [UInt8](unsafeUninitializedCapacity: 1 << 16) { out, count in
                var got = -1
                // Whoever looks at a process, as Swift's crash reports do, interrupts its threads: not an end.
                repeat {
                    got = read(descriptor, out.baseAddress, out.count)
                } while got < 0 && errno == EINTR
                count = max(0, got)
            }
            if chunk.isEmpty {
                guard !buffer.isEmpty else { return nil }
                defer { (buffer, searched) = ([], 0) }
                return buffer
            }
            buffer += chunk
        }
    }
}
