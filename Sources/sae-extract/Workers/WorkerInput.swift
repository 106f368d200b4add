// The message with which the parent starts a worker's computation.

import Extraction
import Logging

/// The order of the parent to a worker: one line of JSON on the worker's standard input.
struct WorkerInput: Codable {
    let task: WorkerTask
    let logLevel: Logger.Level
}

enum WorkerInputError: Error {
    /// Standard input is empty.
    case none
}
