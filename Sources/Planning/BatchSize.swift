// The values of `--batch_size`.

/// The number of documents in a batch.
package enum BatchSize: Equatable, Codable, Sendable {
    /// A fixed number of documents.
    case documents(Int)
    /// As many documents as the token limit of `BatchLimit` allows.
    case auto
}
