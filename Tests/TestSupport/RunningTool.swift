// The real binary while it runs: its log as it comes, its workers, signals.

import Foundation
import Synchronization

/// A run of `sae-extract` with `--log_level trace`, from which the workers' events are read.
public final class RunningTool: @unchecked Sendable {
    private let process = Process()
    private let watchdog: Watchdog
    private let lines = Mutex<[String]>([])
    private let ended = DispatchSemaphore(value: 0)

    /// Starts the binary, as `Tool.run` does.
    public init(
        _ arguments: [String], environment: [String: String?] = [:], launcher: [String] = []
    ) throws {
        let command = launcher + [Tool.path] + arguments + ["--log_level", "trace"]
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = Array(command.dropFirst())
        process.environment = Tool.environment(environment)
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        let errors = Pipe()
        process.standardError = errors
        try process.run()
        watchdog = Watchdog(process)
        let handle = errors.fileHandleForReading
        Thread.detachNewThread { [self] in
            var rest = Data()
            while true {
                let data = handle.availableData
                if data.isEmpty { break }
                rest += data
                var parts = rest.split(separator: 0x0A, omittingEmptySubsequences: false)
                rest = Data(parts.removeLast())
                let new = parts.map { String(decoding: $0, as: UTF8.self) }
                lines.withLock { $0 += new }
            }
            ended.signal()
        }
    }

    /// The parent's process number.
    public var identifier: pid_t { process.processIdentifier }

    /// Everything on standard error so far.
    public var log: String { lines.withLock { $0.joined(separator: "\n") } }

    /// The events so far, of all workers, as JSON text.
    public var events: [String] {
        lines.withLock { lines in
            lines.compactMap { line in
                guard line.hasPrefix("trace: rank ") else { return nil }
                return line.range(of: "{").map { String(line[$0.lowerBound...]) }
            }
        }
    }

    /// The workers' process numbers, in the order they began.
    public var workers: [pid_t] {
        events.compactMap { event in
            guard event.hasPrefix(#"{"started""#) else { return nil }
            return pid_t(event.filter(\.isNumber))
        }
    }

    /// Waits until `condition` holds; false where the run ends first or a minute passes.
    public func wait(until condition: (RunningTool) -> Bool) -> Bool {
        let end = Date().addingTimeInterval(60)
        while Date() < end {
            if condition(self) { return true }
            if !process.isRunning { return condition(self) }
            usleep(2000)
        }
        return false
    }

    /// Waits until `count` batches have been computed, and so many workers have begun.
    public func waitForBatches(_ count: Int, workers: Int = 1) -> Bool {
        wait {
            $0.events.count { $0.hasPrefix(#"{"batch""#) } >= count && $0.workers.count >= workers
        }
    }

    /// Sends `signal` to the parent.
    public func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

    /// Waits for the end: the exit code, or minus the signal.
    public func wait() -> Int32 {
        process.waitUntilExit()
        // Workers hold the other end of the log until they end too.
        _ = ended.wait(timeout: .now() + 30)
        return process.terminationReason == .uncaughtSignal
            ? -process.terminationStatus : process.terminationStatus
    }
}

/// Corpora of any size.
public enum SyntheticCorpus {
    /// JSONL of `documents` documents of authors "author 0", … in turn, of random words.
    public static func jsonl(documents: Int, authors: Int = 5, seed: UInt64 = 1) -> [UInt8] {
        let words = [
            "tide", "bell", "orchard", "ledger", "northward", "stone", "harbour", "of", "the",
            "and",
            "rain", "a", "keeper", "lantern", "slowly", "quarry",
        ]
        var random = SeededGenerator(seed)
        return (0..<documents).flatMap { index in
            let count = Int.random(in: 40...120, using: &random)
            let text = (0..<count).map { _ in words.randomElement(using: &random)! }
            return Array(
                "{\"style\":\"author \(index % authors)\",\"text\":\"\(text.joined(separator: " "))\"}\n"
                    .utf8)
        }
    }
}
