// Documents to token sequences. They depend on the author's documents and the flags alone.

import CUDA
import Corpus
import Gemma2
import Threading
import Tokenization

/// Makes sequences of documents.
package struct Tokenizing {
    package let tokenizer: GemmaTokenizer
    package let head: SequenceHead
    /// Most tokens kept of a document (`T`).
    let limit: Int

    /// Reads the tokenizer of `plan`'s checkpoint. Throws the readers' errors, and `UsageError` where the prefix
    /// is too long for the model.
    package init(_ plan: RunPlan) throws {
        let configPath = plan.locations.model.config + "/config.json"
        let config = try Gemma2Config(path: configPath)
        tokenizer = try GemmaTokenizer(directory: plan.locations.model.tokenizer)
        guard tokenizer.count <= config.dVocab else {
            throw CheckpointError.tooFewRows(
                path: configPath, rows: config.dVocab,
                tokenizer: try GemmaTokenizer.file(in: plan.locations.model.tokenizer),
                lastID: tokenizer.count - 1)
        }
        head = SequenceHead(prefix: plan.prefix, tokenizer)
        limit = plan.columns
        guard limit + head.tokens.count <= config.nContext else {
            throw UsageError(
                "--prefix",
                "has \(head.tokens.count - 1) tokens; with --max_seq_len \(plan.maximumLength) that is more than the model's \(config.nContext) positions; shorten either"
            )
        }
    }

    /// The documents' sequences, made on all of `threads`.
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

    /// How `plan` cuts `sequences` into batches.
    package func batches(_ sequences: [TokenSequence], _ plan: RunPlan) -> [Range<Int>] {
        plan.batchLimit.batches(lengths: sequences.map { head.tokens.count + $0.tokens.count })
    }
}

/// What is put before each document's tokens.
package struct SequenceHead {
    /// `<bos>` and the prefix's tokens.
    package let tokens: [TokenID]

    /// Tokenizes the prefix by itself, so that a document's tokens are the same with and without one.
    init(prefix: String, _ tokenizer: GemmaTokenizer) {
        tokens = [tokenizer.bos] + tokenizer.encode(prefix)
    }
}
