// What a worker tells its parent.

/// What a worker says on its standard output, one JSON object a line.
public enum WorkerEvent: Codable, Equatable, Sendable {
    /// The worker has its task.
    case started(process: Int32)
    /// The model and the SAEs are there.
    case loaded(kernels: String, products: String)
    /// An author's turn.
    case author(name: String)
    /// How many documents of an author are the worker's, and how many of them are in the journals already.
    case share(author: Int, documents: Int, done: Int)
    /// A batch has been computed and is in the journal; bytes in use on the worker's device, if it has one.
    case batch(author: Int, batch: Int, documents: Int, tokens: Int, deviceMemory: Int?)
    /// An author's files are being made.
    case writing(author: Int)
    /// An author's files are all in their places; `made` of them just now.
    case authorDone(author: Int, made: Int)
    /// The worker's share of an author is done; other ranks have the rest.
    case shareDone(author: Int)
    /// The worker ends because of an error. `status` is the exit code for it, `message` has its lines.
    case failed(status: Int32, message: [String])
    /// The worker ends because it was asked to.
    case stopped
    /// The worker has done all it was told to.
    case finished(seconds: [String: Double])
}
