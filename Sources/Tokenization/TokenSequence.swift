// A document as the model sees it.

/// The tokens of one document.
public struct TokenSequence: Equatable, Sendable {
    /// The number of tokens that a tokenizer puts before every document (`Tokenizer.leadingToken`). They have no row in the
    /// output, so arrays have so many columns less than `--max_seq_len`.
    public static let leadingCount = 1

    /// The tokens that are kept of the document, without the leading token and the prefix: at most `T`.
    public var tokens: [TokenID]
    /// Whether tokens were cut off at the end.
    public var isTruncated: Bool

    /// The sequence of `tokens`.
    public init(tokens: [TokenID], isTruncated: Bool) {
        (self.tokens, self.isTruncated) = (tokens, isTruncated)
    }
}
