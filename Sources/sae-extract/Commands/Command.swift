// The protocol of the program's commands.

import ArgumentParser

/// A command of the program: the run, or a subcommand.
protocol Command: ParsableCommand {
    /// Whether the command starts processes, or threads that it cannot do without. Such a command needs /proc. False
    /// for the commands that only read results: they go on with one thread if the system refuses more.
    static var startsTasks: Bool { get }

    /// Runs the command, beginning on the main thread. A command that never suspends stays on the main thread, so the
    /// Swift runtime starts no threads. Throws errors for which `ExitStatus` has an exit code.
    @MainActor func execute(_ environment: [String: String]) async throws
}

extension Command {
    static var startsTasks: Bool { true }
}
