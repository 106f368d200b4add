// The events that a worker reports to its parent. Each event is a JSON object on one line of the worker's standard
// output, such as
//
//   {"batch":{"author":0,"batch":3,"documents":2,"tokens":417}}
//   {"authorDone":{"author":0,"made":7}}
//
// Activations do not go through this pipe. The worker stores them in its journal.

/// An event that a worker reports to its parent.
package enum WorkerEvent: Codable, Equatable, Sendable {
    /// The worker has read its task.
    case started(process: Int32)
    /// The model and the SAEs are loaded. `kernels` names the device and the kernels in use; `products` says how
    /// matrix products are computed.
    case loaded(kernels: String, products: String)
    /// The worker begins with this author.
    case author(name: String)
    /// The number of the author's documents in the worker's share, and how many of them the journals already have.
    case share(author: Int, documents: Int, done: Int)
    /// A batch is computed and stored in the journal. `deviceMemory` is the number of bytes in use on the worker's
    /// device; nil on the CPU.
    case batch(author: Int, batch: Int, documents: Int, tokens: Int, deviceMemory: Int?)
    /// The worker writes the author's files.
    case writing(author: Int)
    /// All files of the author are in place. `made` is the number of files that this worker has written in this
    /// invocation.
    case authorDone(author: Int, made: Int)
    /// The worker's share of the author is done. Other ranks compute the rest.
    case shareDone(author: Int)
    /// The worker ends because of an error. `status` is its exit code, and `message` the lines of the error message.
    case failed(status: Int32, message: [String])
    /// The worker ends because the parent has asked it to stop.
    case stopped
    /// The worker has completed its task. `seconds` has the time of each part of its work.
    case finished(seconds: [String: Double])
}
