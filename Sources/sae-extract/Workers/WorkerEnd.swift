// How a worker process ended.

/// How a worker process ended.
enum WorkerEnd: Equatable {
    /// The worker computed its whole share.
    case done
    /// The worker stopped after a signal. Its finished batches are in the journal.
    case stopped
    /// The worker failed. `status` is the exit code for the failure. It is nil if no reason is known, for example
    /// after a crash. `message` is the error message, one element for each line.
    case failed(status: Int32?, message: [String])
}
