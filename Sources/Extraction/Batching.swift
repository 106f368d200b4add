// Documents to sequences, sequences to batches. Both depend on the author's documents and the flags alone.

import ByteJSON
import Tensors
import Tokenization

/// A document as the model sees it.
struct TokenSequence: Equatable {
    /// The document's tokens that are kept, without `<bos>` and prefix: at most `T`.
    var tokens: [TokenID]
    /// Whether tokens were cut off.
    var isTruncated: Bool
}

/// What is put before each document's tokens.
struct SequenceHead {
    /// `<bos>` and the prefix's tokens.
    let tokens: [TokenID]

    /// Tokenizes the prefix by itself, so that a document's tokens are the same with and without one.
    init(prefix: String, _ tokenizer: GemmaTokenizer) {
        tokens = [tokenizer.bos] + tokenizer.encode(prefix)
    }
}

extension GemmaTokenizer {
    /// `text` cut to `limit` tokens.
    func sequence(_ text: String, limit: Int) -> TokenSequence {
        let ids = encode(text)
        return TokenSequence(tokens: Array(ids.prefix(limit)), isTruncated: ids.count > limit)
    }
}

extension BatchSize {
    /// Tokens of a batch with `auto` on the CPU: enough rows for products to run at full speed, few enough
    /// for activations to stay small.
    static let tokenBudget = 1000

    /// Cuts documents of these lengths (in tokens, head included) into contiguous batches.
    func batches(lengths: [Int]) -> [Range<Int>] {
        var batches: [Range<Int>] = []
        var start = 0
        var tokens = 0
        for (index, length) in lengths.enumerated() {
            let isFull =
                switch self {
                case .documents(let count): index - start == count
                case .auto: index > start && tokens + length > BatchSize.tokenBudget
                }
            if isFull {
                batches.append(start..<index)
                (start, tokens) = (index, 0)
            }
            tokens += length
        }
        if start < lengths.count { batches.append(start..<lengths.count) }
        return batches
    }
}
