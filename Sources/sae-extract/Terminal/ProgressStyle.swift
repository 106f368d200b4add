// The values of --progress.

/// How progress is shown.
enum ProgressStyle: String, CaseIterable {
    /// `bar` if standard error is a terminal, otherwise `plain`.
    case auto
    /// A live line for each worker, and one for all workers.
    case bar
    /// A log line every 30 seconds.
    case plain
    /// A JSON object on standard output in each second with an event, one object per line.
    case json
    /// No progress.
    case none
}
