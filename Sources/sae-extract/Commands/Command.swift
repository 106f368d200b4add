// The protocol of the program's commands.

import ArgumentParser

/// A command of the program: the run, or a subcommand.
protocol Command: ParsableCommand {
    /// Whether the command must be able to start processes or threads. Such a command needs /proc. False for the
    /// commands that only read results: one thread is enough for them.
    static var startsTasks: Bool { get }

    /// Runs the command on the main thread. If the command never suspends, the Swift runtime starts no threads.
    /// Throws errors for which `ExitStatus` has an exit code.
    @MainActor func execute(_ environment: [String: String]) async throws
}

extension Command {
    static var startsTasks: Bool { true }
}
