// What a parent writes to a worker's standard input.

import Extraction
import Logging

/// What a parent writes to a worker's standard input, as JSON on one line.
struct WorkerOrder: Codable {
    let task: WorkerTask
    let logLevel: Logger.Level
}

enum WorkerOrderError: Error {
    /// The input is empty.
    case none
}
