// How a worker process ended.

/// How a worker process ended.
enum WorkerEnd: Equatable {
    /// The worker computed its whole share.
    case done
    /// The worker stopped after a signal. Its finished batches are in the journal.
    case stopped
    /// The worker failed. `status` is the exit code that the worker chose for its error. It is nil if the worker
    /// crashed, was killed, or gave no reason. `message` is the error message, one element for each line.
    case failed(status: Int32?, message: [String])
}
