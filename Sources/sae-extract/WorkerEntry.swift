// The worker's side of the pipe: its task comes on standard input, what it does goes to standard output.
// By hand: `sae-extract __worker < task.json`.

import Extraction
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// A process that carries out one task.
enum WorkerEntry {
    /// The argument that makes a process a worker.
    static let argument = "__worker"
    /// The line after the task that asks the worker to end after the batch in hand.
    static let stopLine = "stop"

    /// Reads the task, carries it out, and exits.
    static func main() -> Never {
        let stop = StopFlag()
        StopSignals.handle { _ in stop.raise() }
        let input = LineReader(descriptor: STDIN_FILENO)
        let order: WorkerOrder
        do {
            guard let line = input.next() else { throw WorkerOrderError.none }
            order = try JSONDecoder().decode(WorkerOrder.self, from: Data(line))
        } catch {
            writeToStandardError(
                "Error: standard input has no task for a worker (\(error)); run sae-extract without \(argument)\n"
            )
            _exit(ExitStatus.usage.rawValue)
        }
        watch(input, stop)
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
            send(.failed(status: status.rawValue, message: "\(error)"))
            _exit(status.rawValue)
        }
    }

    /// The parent holds the other end of standard input; when it is gone, so is the reason for the work. What
    /// is in the journal stays.
    private static func watch(_ input: LineReader, _ stop: StopFlag) {
        var info = stat()
        // A task given by hand, in a file, ends like any file.
        guard fstat(STDIN_FILENO, &info) == 0, [S_IFIFO, S_IFSOCK].contains(info.st_mode & S_IFMT)
        else { return }
        nonisolated(unsafe) let input = input
        startThread {
            while let line = input.next() {
                if line == Array(stopLine.utf8) { stop.raise() }
            }
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
