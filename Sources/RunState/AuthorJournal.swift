// Reads the batches of one author from the journals.

import Hooks
import Tensors
import Tokenization

/// The batches of one author, in a union that has all batches of the author.
package struct AuthorJournal {
    let union: JournalUnion
    /// The index of the author in the plan's order, from 0.
    package let number: Int
    /// The documents of each batch.
    package let batches: [ArraySlice<TokenSequence>]
    /// The bounds on the content of the journal records.
    package let limits: RecordLimits

    /// Creates the view of the batches of the author with index `number`. Throws as `limitsOfAll` does.
    package init(_ union: JournalUnion, number: Int, batches: [ArraySlice<TokenSequence>]) throws {
        (self.union, self.number, self.batches) = (union, number, batches)
        limits = try union.limitsOfAll()
    }

    /// Whether the batch at index `batch` was computed in parts because memory was short.
    package func isDivided(_ batch: Int) -> Bool { union.isDivided(author: number, batch: batch) }

    /// Returns the results of the documents of the batch at index `batch`. Throws `FileError` and
    /// `JournalChangedError`.
    package func documents(of batch: Int) throws -> [DocumentRecord] {
        let (bytes, _) = try union.read(.documents, author: number, batch: batch)
        guard let documents = BatchRecord.documents(bytes, of: batches[batch]) else {
            throw try union.change(.documents, author: number, batch: batch)
        }
        return documents
    }

    /// Returns the number of features that fired at `hook`, summed over all tokens of the batch. Throws `FileError`
    /// and `JournalChangedError`.
    package func firingCount(_ hook: HookPoint, of batch: Int) throws -> Int {
        try union.firingCount(hook, author: number, batch: batch)
    }

    /// Returns the features of `hook` that fired in the batch. Throws `FileError` and `JournalChangedError`.
    package func features(_ hook: HookPoint, of batch: Int) throws -> SparseRows {
        let (bytes, rows) = try union.read(.features(hook), author: number, batch: batch)
        guard BatchRecord.rowCount(.features(hook), bytes[...], limits) == rows else {
            throw try union.change(.features(hook), author: number, batch: batch)
        }
        return BatchRecord.decodeFeatures(bytes, values: limits.values)
    }
}
