// Access to the built program while it runs: its log, the process IDs of its workers, and signals to the parent.

import Foundation
import Synchronization

/// A running `sae-extract` with `--log_level trace`. At this level the log has the events of all workers.
package final class RunningTool: @unchecked Sendable {
    private let process: RunningCommand
    private let lines = Mutex<[String]>([])
    private let ended = DispatchSemaphore(value: 0)

    /// Starts the program. The parameters are those of `Tool.run`.
    package init(
        _ arguments: [String], environment: [String: String?] = [:], launcher: [String] = []
    ) throws {
        let errors = Pipe()
        process = try Tool.start(
            arguments + ["--log_level", "trace"], environment: environment, launcher: launcher
        ) { $0.standardError = errors }
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

    /// The process ID of the parent.
    package var identifier: pid_t { process.identifier }

    /// The complete lines that the program has written to standard error so far.
    package var log: String { lines.withLock { $0.joined(separator: "\n") } }

    /// The events of all workers so far. Each event is JSON text.
    package var events: [String] {
        lines.withLock { lines in
            lines.compactMap { line in
                guard line.hasPrefix("trace: rank ") else { return nil }
                return line.range(of: "{").map { String(line[$0.lowerBound...]) }
            }
        }
    }

    /// The process IDs of the workers, in the order in which they started.
    package var workers: [pid_t] {
        events.compactMap { event in
            guard event.hasPrefix(#"{"started""#) else { return nil }
            return pid_t(event.filter(\.isNumber))
        }
    }

    /// Waits until `condition` returns true. Returns false if it is still false after 60 seconds or after the run.
    package func wait(until condition: (RunningTool) -> Bool) -> Bool {
        let end = Date().addingTimeInterval(60)
        while Date() < end {
            if condition(self) { return true }
            if !process.isRunning { return condition(self) }
            usleep(2000)
        }
        return false
    }

    /// Waits until at least `count` batches have been computed and at least `workers` workers have started.
    package func waitForBatches(_ count: Int, workers: Int = 1) -> Bool {
        wait {
            $0.events.count { $0.hasPrefix(#"{"batch""#) } >= count && $0.workers.count >= workers
        }
    }

    /// Sends `signal` to the parent.
    package func send(_ signal: Int32) { kill(identifier, signal) }

    /// Waits until the parent ends. Returns its exit code, or minus the number of the signal that ended it.
    package func wait() -> Int32 {
        let status = process.wait()
        // The workers also hold the pipe of the log open, so the log ends only when all workers have ended.
        _ = ended.wait(timeout: .now() + 30)
        return status
    }
}

/// Makes corpora of any size.
package enum SyntheticCorpus {
    /// Returns a JSONL corpus with one document of 60 words for each of `authors`, in this order.
    package static func jsonl(authors: [String]) throws -> [UInt8] {
        let text = Array(repeating: "tide and bell", count: 20).joined(separator: " ")
        return try authors.flatMap { author in
            let name = String(decoding: try JSONEncoder().encode(author), as: UTF8.self)
            return Array("{\"style\":\(name),\"text\":\"\(text)\"}\n".utf8)
        }
    }

    /// Returns a JSONL corpus of `documents` documents of 40 to 120 random words. The documents belong in turn to
    /// "author 0", "author 1", …
    package static func jsonl(documents: Int, authors: Int = 5, seed: UInt64 = 1) -> [UInt8] {
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
