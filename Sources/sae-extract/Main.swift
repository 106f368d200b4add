// From the process' arguments to its exit code.

import ArgumentParser
import Extraction
import Foundation
import Logging
import Tensors

extension SAEExtract {
    /// Parses, runs, and exits.
    static func main() {
        let arguments: [String]
        let command: SAEExtract
        do {
            arguments = try CommandLineArguments.normalized(
                Array(CommandLine.arguments.dropFirst()),
                environment: ProcessInfo.processInfo.environment)
            command = try SAEExtract.parse(arguments)
        } catch let error as UsageError {
            ExitStatus.usage.exit(saying: error)
        } catch {
            SAEExtract.exit(withError: error)
        }
        restartWithBetterKernels()
        LoggingSystem.bootstrap { _ in StandardErrorLog(level: command.execution.logLevel) }
        do {
            var options = try command.options()
            options.commandLine = CommandLine.arguments
            try ExtractionRun.run(
                try RunPlan(options), log: Logger(label: "sae-extract"))
        } catch {
            ExitStatus(for: error).exit(saying: error)
        }
    }

    /// OpenBLAS chooses its kernels while the process starts. Where others serve this processor better, the
    /// process replaces itself by one that is told so; that one finds the variable set and goes on.
    private static func restartWithBetterKernels() {
        let environment = ProcessInfo.processInfo.environment
        guard let kernels = OpenBLASKernels.better(environment: environment) else { return }
        setenv(OpenBLASKernels.variable, kernels, 1)
        var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
        execv("/proc/self/exe", &arguments)
        // Where the system refuses, the run is slower but right; run.json names the kernels.
        arguments.forEach { free($0) }
    }
}

/// Writes log lines to standard error: the message alone at `info`, else the level before it.
struct StandardErrorLog: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    init(level: Logger.Level) {
        logLevel = level
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let prefix = event.level == .info ? "" : "\(event.level): "
        FileHandle.standardError.write(Data("\(prefix)\(event.message)\n".utf8))
    }
}
