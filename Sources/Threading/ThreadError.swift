// The error for threads that the system does not start.

/// The system does not start `count` threads, for `reason`.
public struct ThreadError: Error, Equatable, CustomStringConvertible {
    /// The number of threads that were asked for.
    public let count: Int
    /// The limit that is reached, in words.
    public let reason: String

    /// Which limit is reached and what to do.
    public var description: String {
        "cannot start \(count) threads: \(reason); give fewer with --threads, end other processes, or raise the limit"
    }
}
