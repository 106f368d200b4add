// Converts documents to token sequences. A sequence depends only on the document, the tokenizer and the flags.

import Corpus
import Gemma2
import Threading
import Tokenization

/// Tokenizes documents for one plan.
package struct Tokenizing {
    /// The tokenizer of the plan's checkpoint.
    package let tokenizer: any Tokenizer
    /// The tokens before each document.
    package let head: SequenceHead
    /// The maximum number of tokens of a document. The tokens after these are dropped.
    private let limit: Int

    /// Reads the tokenizer of `plan`'s checkpoint. Throws the readers' errors. Throws `CheckpointError` if the
    /// embedding has too few rows for the tokenizer's ids, and `UsageError` if the prefix is too long for the model.
    package init(_ plan: RunPlan) throws {
        let configPath = plan.locations.model.config + "/config.json"
        let config = try Gemma2Config(path: configPath)
        let folder = plan.locations.model.tokenizer
        tokenizer = try TokenizerFiles.read(directory: folder)
        guard tokenizer.count <= config.dVocab else {
            throw CheckpointError.tooFewRows(
                path: configPath, rows: config.dVocab,
                tokenizer: try TokenizerFiles.file(in: folder), lastID: tokenizer.count - 1)
        }
        head = SequenceHead(prefix: plan.prefix, tokenizer)
        limit = plan.columns
        guard limit + head.tokens.count <= config.nContext else {
            throw UsageError(
                "--prefix",
                "has \(head.prefixCount) tokens; with --max_seq_len \(plan.maximumLength), that is more than the model's \(config.nContext) positions; shorten the prefix, or lower --max_seq_len"
            )
        }
    }

    /// Returns the token sequences of `documents`, in order. Uses all threads of `threads`.
    package func sequences(_ documents: [Document], on threads: ThreadPool) -> [TokenSequence] {
        var sequences = [TokenSequence?](repeating: nil, count: documents.count)
        var caches = [WordCache](repeating: WordCache(), count: threads.threadCount)
        sequences.withUnsafeMutableBufferPointer { sequences in
            caches.withUnsafeMutableBufferPointer { caches in
                nonisolated(unsafe) let (sequences, caches) = (sequences, caches)
                threads.forEach(documents.count) { item, thread in
                    sequences[item] = tokenizer.sequence(
                        documents[item].text, limit: limit, &caches[thread])
                }
            }
        }
        return sequences.map { $0! }
    }

    /// Divides `sequences` into the batches of `plan`. Returns the range of each batch.
    package func batches(_ sequences: [TokenSequence], _ plan: RunPlan) -> [Range<Int>] {
        plan.batchLimit.batches(lengths: sequences.map { head.tokens.count + $0.tokens.count })
    }
}

/// The tokens before each document: the leading token and the prefix. The output has no rows for them.
package struct SequenceHead {
    /// The leading token, then the tokens of the prefix.
    package let tokens: [TokenID]

    /// The number of tokens of the prefix.
    var prefixCount: Int { tokens.count - TokenSequence.leadingCount }

    /// Tokenizes the prefix separately, so that a document has the same tokens with and without a prefix.
    init(prefix: String, _ tokenizer: any Tokenizer) {
        tokens = [tokenizer.leadingToken] + tokenizer.encode(prefix)
    }
}
