// The values of --progress.

/// How progress is shown.
enum ProgressStyle: String, CaseIterable {
    /// The style `bar` if standard error is a terminal, otherwise `plain`.
    case auto
    /// A live line for each worker. If there are several workers, also a live line for all of them together.
    case bar
    /// A log line every 30 seconds.
    case plain
    /// A JSON object on standard output every second, one object per line. No object if no event has arrived.
    case json
    /// No progress.
    case none
}
