// A document as the model sees it.

/// The tokens of one document.
public struct TokenSequence: Equatable, Sendable {
    /// The tokens that are kept of the document, without `<bos>` and prefix: at most `T`.
    public var tokens: [TokenID]
    /// Whether tokens were cut off at the end.
    public var isTruncated: Bool

    /// The sequence of `tokens`.
    public init(tokens: [TokenID], isTruncated: Bool) {
        (self.tokens, self.isTruncated) = (tokens, isTruncated)
    }
}

extension GemmaTokenizer {
    /// The first `limit` tokens of `text`.
    public func sequence(_ text: String, limit: Int, _ cache: inout WordCache) -> TokenSequence {
        let ids = encode(text, &cache)
        return TokenSequence(tokens: Array(ids.prefix(limit)), isTruncated: ids.count > limit)
    }
}
