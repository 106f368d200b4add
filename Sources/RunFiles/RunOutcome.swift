// The outcome of an invocation, as `run.json` names it.

/// The outcome of an invocation.
package enum RunOutcome: String, Sendable {
    /// The invocation is running, or was killed.
    case unfinished
    /// All shares of the invocation are done.
    case done
    /// A signal stopped the invocation.
    case stopped
    /// A worker failed.
    case failed
}
