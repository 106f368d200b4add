// The program's entry point: parses the arguments, runs the command, and exits with its exit code.

import ArgumentParser
import Files
import FoundationEssentials
import Glibc
import Planning

@main
enum Main {
    static func main() async {
        ProcessSetup.prepare()
        switch ProcessArguments.own.first {
        case WorkerEntry.argument: WorkerEntry.main()
        case DeviceDiscovery.argument: DeviceDiscovery.main()
        default: break
        }
        ProcessSetup.shareHeap()
        MappedFile.explainFaults(status: ExitStatus.ioError.rawValue)
        do {
            try ProcessArguments.check()
            try LibraryPaths.expandHome()
            try CommandLineArguments.checkSubcommand(
                ProcessArguments.own,
                among: SAEExtract.configuration.subcommands.map { $0._commandName } + ["help"])
            // Must come before the first asynchronous call, which lets the Swift runtime start threads.
            try StartLimits.checkMemory()
        } catch {
            ExitStatus(for: error).exit(saying: error)
        }
        let environment = ProcessInfo.processInfo.environment
        if ProcessArguments.own.first == "--version" {
            // Must come before `VersionCommand.run`. This asynchronous call lets the Swift runtime start threads.
            do {
                try StartLimits.checkTasks()
            } catch {
                ExitStatus(for: error).exit(saying: error)
            }
            await VersionCommand.run(environment)
        }
        let arguments: [String]
        do {
            try SettingSource.look(ProcessArguments.own, environment)
            arguments = try CommandLineArguments.normalized(
                ProcessArguments.own, environment: environment)
        } catch {
            ExitStatus(for: error).exit(saying: error)
        }
        let command: any Command
        do {
            var parsed = try SAEExtract.parseAsRoot(arguments)
            // A parsed command that is not a `Command` is one of ArgumentParser's own: help or completions.
            guard let own = parsed as? any Command else {
                try parsed.run()
                SAEExtract.exit()
            }
            command = own
        } catch {
            exit(refusing: arguments, error)
        }
        do {
            let name = type(of: command)._commandName
            if CommandLineArguments.otherCommands.contains(name),
                ProcessArguments.own.first != name
            {
                throw UsageError(
                    name,
                    "the subcommand must be the first word; give its flags after it: sae-extract \(name) ..."
                )
            }
            if type(of: command).startsTasks { try StartLimits.checkTasks() }
            try await command.execute(environment)
        } catch {
            ExitStatus(for: error).exit(saying: error)
        }
    }
}

/// Writes ArgumentParser's message for `error` and ends the process with ArgumentParser's exit code.
private func exit(refusing arguments: [String], _ error: any Error) -> Never {
    let code = SAEExtract.exitCode(for: error)
    // ArgumentParser reports a request for help or completions as an error with the exit code of success.
    if code == .success { SAEExtract.exit(withError: error) }
    // The message has several lines and quotes arguments. An argument may contain line breaks too, for example a file
    // name from `inspect *`. So the message is made again from printable arguments, and then split into lines.
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
