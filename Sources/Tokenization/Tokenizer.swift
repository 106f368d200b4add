// The interface of a tokenizer. To support another model's tokenizer, write a type that conforms to `Tokenizer`, and
// change `TokenizerFiles` so that it chooses this type.

/// The id of a token, from 0.
package typealias TokenID = Int32

/// Converts text to the token ids of one model.
package protocol Tokenizer: Sendable {
    /// One more than the largest id.
    var count: Int { get }
    /// The token that comes before every document. The model reads it, and it counts in `--max_seq_len`, but the
    /// output has no row for it (`TokenSequence.leadingCount`).
    var leadingToken: TokenID { get }
    /// The id that fills the output after the last token of a document.
    var pad: TokenID { get }

    /// Returns the UTF-8 of a token's piece in the spelling of Hugging Face: `▁the`, `\n`, `<0xF0>`.
    func piece(_ id: TokenID) -> ArraySlice<UInt8>

    /// Returns the ids of `text`, without the leading token. `cache` stores the ids of words. A repeated word costs
    /// almost no time, even in another text with the same cache.
    func encode(_ text: String, _ cache: inout WordCache) -> [TokenID]
}

extension Tokenizer {
    /// Returns the ids of `text`, without the leading token.
    package func encode(_ text: String) -> [TokenID] {
        var cache = WordCache()
        return encode(text, &cache)
    }

    /// Returns the first `limit` tokens of `text`.
    package func sequence(_ text: String, limit: Int, _ cache: inout WordCache) -> TokenSequence {
        let ids = encode(text, &cache)
        return TokenSequence(tokens: Array(ids.prefix(limit)), isTruncated: ids.count > limit)
    }
}
