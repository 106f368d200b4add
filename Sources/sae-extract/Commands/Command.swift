// What every command of the program has in common.

import ArgumentParser

/// A command of the program: the run, or a subcommand.
protocol Command: ParsableCommand {
    /// Whether the command starts threads or processes. Default: true. The commands that only read results use one thread and
    /// do not need /proc.
    static var startsTasks: Bool { get }

    /// Runs the command. Begins on the main thread, where `Main.main` runs. A command that does not suspend stays there, and the
    /// runtime starts no other thread. Throws errors for which `ExitStatus` has a code.
    @MainActor func execute(_ environment: [String: String]) async throws
}

extension Command {
    static var startsTasks: Bool { true }
}
