// What a worker tells its parent: one JSON object a line on its standard output, such as
//
//   {"batch":{"author":0,"batch":3,"documents":2,"tokens":417}}
//   {"authorDone":{"author":0,"made":7}}
//
// Activations do not go through this pipe: they are stored in journals.

/// An event that a worker reports to its parent.
public enum WorkerEvent: Codable, Equatable, Sendable {
    /// The worker has read its task.
    case started(process: Int32)
    /// The model and the SAEs are loaded. The texts name the kernels and the kind of products.
    case loaded(kernels: String, products: String)
    /// The worker begins with this author.
    case author(name: String)
    /// The number of the author's documents in the worker's share, and how many of them are in the journals already.
    case share(author: Int, documents: Int, done: Int)
    /// A batch is computed and stored in the journal. `deviceMemory`: the bytes in use on the worker's device; nil on the CPU.
    case batch(author: Int, batch: Int, documents: Int, tokens: Int, deviceMemory: Int?)
    /// The worker writes the author's files.
    case writing(author: Int)
    /// All files of the author are in place. `made`: the number of files that this worker has written now.
    case authorDone(author: Int, made: Int)
    /// The worker's share of the author is done. Other ranks compute the rest.
    case shareDone(author: Int)
    /// The worker ends because of an error. `status` is its exit code, `message` the lines of the error message.
    case failed(status: Int32, message: [String])
    /// The worker ends because the parent has asked it to.
    case stopped
    /// The worker has completed its task. `seconds`: the time of each part of its work.
    case finished(seconds: [String: Double])
}
