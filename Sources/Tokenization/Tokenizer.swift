// What the rest of the program knows of a tokenizer. A model with another tokenizer needs a type that conforms to `Tokenizer`,
// and `TokenizerFiles` has to choose it.

/// The id of a token, from 0.
public typealias TokenID = Int32

/// Converts text to the token ids of one model.
public protocol Tokenizer: Sendable {
    /// One more than the largest id.
    var count: Int { get }
    /// The token that precedes every document. It is input of the model, counts in `--max_seq_len`, and has no row in the
    /// output (`TokenSequence.leadingCount`).
    var leadingToken: TokenID { get }
    /// The id that fills the outputs after the end of a document.
    var pad: TokenID { get }

    /// Returns the UTF-8 of a token's piece as Hugging Face spells it: `▁the`, `\n`, `<0xF0>`.
    func piece(_ id: TokenID) -> ArraySlice<UInt8>

    /// Returns the ids of `text`, without the leading token. `cache` keeps the ids of words: if several texts share one cache,
    /// repeated words cost almost nothing.
    func encode(_ text: String, _ cache: inout WordCache) -> [TokenID]
}

extension Tokenizer {
    /// Returns the ids of `text`, without the leading token.
    public func encode(_ text: String) -> [TokenID] {
        var cache = WordCache()
        return encode(text, &cache)
    }

    /// Returns the first `limit` tokens of `text`.
    public func sequence(_ text: String, limit: Int, _ cache: inout WordCache) -> TokenSequence {
        let ids = encode(text, &cache)
        return TokenSequence(tokens: Array(ids.prefix(limit)), isTruncated: ids.count > limit)
    }
}
