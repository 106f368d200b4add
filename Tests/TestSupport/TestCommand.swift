// Runs commands for tests. Every process has a time limit.

import Foundation

/// Runs commands and waits until they end.
package enum TestCommand {
    /// The result of a finished command.
    package struct Outcome {
        /// The exit code, or minus the number of the signal that ended the process.
        package let status: Int32
        /// The text on standard output.
        package let output: String
        /// The text on standard error.
        package let errors: String
    }

    /// Runs the command `words` in `folder` and waits until it ends. The first word is an absolute path or the name
    /// of a program in PATH. If `environment` is nil, the command inherits the environment of this process. `input`
    /// is the text on standard input. If it is nil, standard input is /dev/null.
    package static func run(
        _ words: [String], in folder: String? = nil, environment: [String: String]? = nil,
        input: String? = nil
    ) throws -> Outcome {
        let (content, output, errors) = (Pipe(), Pipe(), Pipe())
        let process = try RunningCommand(words) {
            if let folder { $0.currentDirectoryURL = URL(fileURLWithPath: folder) }
            if let environment { $0.environment = environment }
            if input != nil { $0.standardInput = content }
            $0.standardOutput = output
            $0.standardError = errors
        }
        // Reads and writes all pipes at the same time. Otherwise one pipe could fill up and block the command.
        nonisolated(unsafe) var errorData = Data()
        let others = DispatchGroup()
        DispatchQueue.global().async(group: others) {
            errorData = errors.fileHandleForReading.readDataToEndOfFile()
        }
        if let input {
            DispatchQueue.global().async(group: others) {
                try? content.fileHandleForWriting.write(contentsOf: Data(input.utf8))
                try? content.fileHandleForWriting.close()
            }
        }
        let data = output.fileHandleForReading.readDataToEndOfFile()
        others.wait()
        return Outcome(
            status: process.wait(), output: String(decoding: data, as: UTF8.self),
            errors: String(decoding: errorData, as: UTF8.self))
    }
}

/// A process that runs in the background of a test. It has a time limit, and is killed when this object is released.
package final class RunningCommand {
    private let process = Process()
    private let watchdog: Watchdog

    /// Starts the command `words`. The first word is an absolute path or the name of a program in PATH. The standard
    /// streams are /dev/null, and the environment is that of this process. `setUp` can change both.
    package init(_ words: [String], _ setUp: (Process) -> Void = { _ in }) throws {
        let command = words[0].hasPrefix("/") ? words : ["/usr/bin/env"] + words
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = Array(command.dropFirst())
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        setUp(process)
        try process.run()
        watchdog = Watchdog(process)
    }

    deinit { stop() }

    /// The process ID.
    package var identifier: pid_t { process.processIdentifier }

    /// Whether the process has not ended yet.
    package var isRunning: Bool { process.isRunning }

    /// Waits until the process ends. Returns its exit code, or minus the number of the signal that ended it.
    package func wait() -> Int32 {
        process.waitUntilExit()
        watchdog.stop()
        return process.terminationReason == .uncaughtSignal
            ? -process.terminationStatus : process.terminationStatus
    }

    /// Kills the process if it is running, and waits until it has ended.
    package func stop() {
        guard process.isRunning else { return }
        // Sends SIGKILL, because other signals may be blocked: a process that a Dispatch thread has started inherits
        // the thread's signal mask.
        kill(process.processIdentifier, SIGKILL)
        _ = wait()
    }

    /// Removes the time limit, for a server that runs as long as its test.
    func removeTimeLimit() { watchdog.stop() }
}
