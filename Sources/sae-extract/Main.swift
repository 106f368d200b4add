// From the process' arguments to its exit code.

import ArgumentParser
import CUDA
import Files
import FoundationEssentials
import Glibc
import Logging
import Planning
import RunFiles
import Synchronization
import Tensors

@main
enum Main {
    static func main() async {
        // Where a standard stream is closed, the first file opened would take its place and get the log.
        for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) < 0 {
            _ = open("/dev/null", O_RDWR)
        }
        // A file size limit or a closed pipe is an error of the write, not the end of the process.
        signal(SIGXFSZ, SIG_IGN)
        signal(SIGPIPE, SIG_IGN)
        // Where it is ignored, as some launchers leave it, nobody learns how a worker ended.
        signal(SIGCHLD, SIG_DFL)
        raiseFileLimit()
        switch ProcessArguments.own.first {
        case WorkerEntry.argument: WorkerEntry.main()
        case DeviceDiscovery.argument: DeviceDiscovery.main()
        default: break
        }
        shareHeap()
        MappedFile.explainFaults(status: ExitStatus.ioError.rawValue)
        do {
            try checkArguments()
            try expandLibraryPaths()
            try CommandLineArguments.checkSubcommand(
                ProcessArguments.own,
                among: SAEExtract.configuration.subcommands.map { $0._commandName } + ["help"])
            // Before anything asynchronous.
            try Launcher.checkMemory()
        } catch {
            ExitStatus(for: error).exit(saying: error)
        }
        let environment = ProcessInfo.processInfo.environment
        if ProcessArguments.own.first == "--version" {
            // Before what is asynchronous, which begins with the call.
            do {
                try Launcher.checkTasks()
            } catch {
                ExitStatus(for: error).exit(saying: error)
            }
            await printVersion(environment)
        }
        let arguments: [String]
        do {
            try SettingSource.look(ProcessArguments.own, environment)
            arguments = try CommandLineArguments.normalized(
                ProcessArguments.own, environment: environment)
        } catch {
            ExitStatus(for: error).exit(saying: error)
        }
        var command: any ParsableCommand
        do {
            command = try SAEExtract.parseAsRoot(arguments)
            // What is none of ours is the parser's own: help and completions.
            guard
                command is SAEExtract || command is SAEExtract.Fetch
                    || command is SAEExtract.ListSAEs || command is SAEExtract.Devices
                    || command is SAEExtract.Inspect || command is SAEExtract.Report
                    || command is SAEExtract.Verify
            else {
                try command.run()
                SAEExtract.exit()
            }
        } catch {
            exit(refusing: arguments, error)
        }
        do {
            let name = type(of: command)._commandName
            if CommandLineArguments.otherCommands.contains(name),
                ProcessArguments.own.first != name
            {
                throw UsageError(
                    name, "must be the first word, its flags behind it: sae-extract \(name) ...")
            }
            // What only reads results does with one thread, and without /proc.
            if !(command is SAEExtract.Inspect || command is SAEExtract.Report
                || command is SAEExtract.Verify)
            {
                try Launcher.checkTasks()
            }
            switch command {
            case let fetch as SAEExtract.Fetch:
                startLogging(fetch.run)
                try await HubCommands(fetch.run, of: "fetch", environment: environment).fetch()
            case let list as SAEExtract.ListSAEs:
                startLogging(list.run)
                try await HubCommands(list.run, of: "saes", environment: environment).list()
            case is SAEExtract.Devices:
                try await DeviceDiscovery(environment: environment).report()
            case let inspect as SAEExtract.Inspect: try inspect.run()
            case let report as SAEExtract.Report: try report.run()
            case let verify as SAEExtract.Verify: try verify.run()
            case let run as SAEExtract:
                startLogging(run)
                try await Invocation(run, environment: environment).run()
            default: break
            }
        } catch {
            ExitStatus(for: error).exit(saying: error)
        }
    }
}

/// Says what the parser says of `arguments`, and ends the process as it would.
private func exit(refusing arguments: [String], _ error: any Error) -> Never {
    let code = SAEExtract.exitCode(for: error)
    // Help and completions.
    if code == .success { SAEExtract.exit(withError: error) }
    // Its message has lines of its own, and arguments between them, which may be names of files (inspect *): made of
    // printable ones, all line breaks are the message's.
    var said = error
    do {
        _ = try SAEExtract.parseAsRoot(arguments.map(printable))
    } catch {
        said = error
    }
    var lines = SAEExtract.fullMessage(for: said).split(
        separator: "\n", omittingEmptySubsequences: false
    ).map(String.init)
    if let note = SettingSource.note(on: SAEExtract.message(for: error)) { lines.append(note) }
    Console.shared.write(lines)
    _exit(code.rawValue)
}

/// Version, commit, and what computes.
private func printVersion(_ environment: [String: String]) async -> Never {
    let commit = sourceCommit.isEmpty ? "" : " (\(sourceCommit))"
    let devices = await DeviceDiscovery(environment: environment).summary()
    let kernels = OpenBLASKernels.preferred(environment).map { "; workers take \($0)" } ?? ""
    try? printLines([
        "sae-extract \(RunFiles.version)\(commit)", "\(OpenBLASBackend.library)\(kernels)",
        devices,
    ])
    _exit(0)
}

private func startLogging(_ command: SAEExtract) {
    LoggingSystem.bootstrap { _ in StandardErrorLog(level: command.execution.logLevel) }
}

/// Each journal that is read stays open.
private func raiseFileLimit() {
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    var files = rlimit()
    guard getrlimit(resource, &files) == 0 else { return }
    files.rlim_cur = files.rlim_max
    setrlimit(resource, &files)
}

/// Swift would read a path that is not UTF-8 as another one. Throws `UsageError`.
private func checkArguments() throws {
    guard let index = ProcessArguments.firstInvalid else { return }
    let flag = ProcessArguments.all[..<index].last { $0.hasPrefix("--") }
    throw UsageError(
        flag ?? "arguments",
        "'\(ProcessArguments.all[index])' is not valid UTF-8; rename the file or folder, or give another name"
    )
}

/// Expands `~` in the variables that name libraries, for this process and those that it starts. Throws `UsageError`.
private func expandLibraryPaths() throws {
    for name in CUDALibraries.pathVariables {
        guard let value = getenv(name).map({ String(cString: $0) }) else { continue }
        let path = try UsageError.expandingHome(value, of: name)
        if path != value { setenv(name, path, 1) }
    }
}

/// Keeps this process' threads to one heap. glibc would reserve 128 MiB of address space for each, which a limit
/// (ulimit -v) counts. Swift does not see `mallopt`, nor M_ARENA_MAX, which is -8 (malloc.h).
private func shareHeap() {
    typealias MallocOption = @convention(c) (Int32, Int32) -> Int32
    guard let symbol = dlsym(nil, "mallopt") else { return }
    _ = unsafeBitCast(symbol, to: MallocOption.self)(-8, 1)
}

/// Writes log lines to standard error: the message alone at `info`, else the level before it.
struct StandardErrorLog: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    private let prefix: String

    init(level: Logger.Level, prefix: String = "") {
        logLevel = level
        self.prefix = prefix
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let level = event.level == .info ? "" : "\(event.level): "
        let message = SettingSource.named(in: "\(event.message)")
        writeErrorLine("\(prefix)\(level)\(message)")
    }
}

/// Writes `line`, made printable, and its end to standard error; where nobody listens any more, the run goes on.
func writeErrorLine(_ line: String) {
    Console.shared.write([line])
}

extension [String] {
    /// The lines of a message with `head` before them.
    func after(_ head: String) -> [String] {
        [head + (first ?? "")] + dropFirst()
    }
}
