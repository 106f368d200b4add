// What `run.json` says of an invocation as a whole.

/// The program's version.
public let version = "0.1.0"

/// What became of an invocation.
public enum RunOutcome: String, Sendable {
    /// At work, or killed.
    case unfinished
    /// All of this invocation's shares are done.
    case done
    /// Stopped by a signal.
    case stopped
    /// A worker failed.
    case failed
}
