// The error for threads that the system does not start.

/// The error for `count` threads that the system does not start, because of `reason`.
public struct ThreadError: Error, Equatable, CustomStringConvertible {
    /// The number of threads that should be started.
    public let count: Int
    /// The system's error and the limit that is reached, as text.
    public let reason: String

    /// What failed, the reason, and the next step.
    public var description: String {
        "cannot start \(count) threads: \(reason); give fewer with --threads, end other processes, or raise the limit"
    }
}
