// How a worker process ended.

/// How a worker process ended.
enum WorkerEnd: Equatable {
    /// It computed its whole share.
    case done
    /// It stopped after a signal. Its finished batches are in the journal.
    case stopped
    /// It failed. `status` is the exit code that the worker chose for its error; nil if it crashed, was killed, or exited
    /// without a reason. `message` is the error message, one element per line.
    case failed(status: Int32?, message: [String])
}
