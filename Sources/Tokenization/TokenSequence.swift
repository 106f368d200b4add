// The tokens of one document, as the model reads them.

/// The tokens of one document.
package struct TokenSequence: Equatable, Sendable {
    /// The number of tokens that a tokenizer puts before every document (`Tokenizer.leadingToken`). The output has no
    /// rows for them, so it has at most `--max_seq_len` - 1 tokens of a document.
    package static let leadingCount = 1

    /// The tokens of the document up to a limit, without the leading token and the prefix.
    package var tokens: [TokenID]
    /// Whether tokens were cut off at the end.
    package var isTruncated: Bool

    /// Creates a sequence with `tokens`.
    package init(tokens: [TokenID], isTruncated: Bool) {
        (self.tokens, self.isTruncated) = (tokens, isTruncated)
    }
}
