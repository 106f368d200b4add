// Checks the companion files of a tokenizer, such as `tokenizer_config.json`, because they can change ids in
// transformers.
// Source of the keys: transformers, tokenization_utils_base.py and tokenization_utils_fast.py.

import ByteJSON
import Files

/// The companion files of a tokenizer: `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`.
struct TokenizerCompanions {
    /// The path of the tokenizer's file.
    private let tokenizer: String
    /// The texts of the tokenizer's added tokens.
    private let added: Set<ExactString>
    /// Warnings. Each names its file.
    private(set) var warnings: [String] = []

    /// The keys that have one special token as their value.
    private static let tokenKeys = [
        "bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token",
    ]

    /// Checks the companion files that exist in `directory`. Throws `FileError` or `UnexpectedFileError`. Throws
    /// `TokenizerError` if a file is damaged or would change ids.
    init(directory: String, tokenizer: String, added: Set<ExactString>) throws {
        (self.tokenizer, self.added) = (tokenizer, added)
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            guard let object = try TokenizerCompanions.object(at: "\(directory)/\(name)") else {
                continue
            }
            try checkSettings(object, path: "\(directory)/\(name)")
            try checkTokens(TokenizerCompanions.tokens(of: object), path: "\(directory)/\(name)")
        }
        let path = directory + "/added_tokens.json"
        if let object = try TokenizerCompanions.object(at: path) {
            try checkTokens(object.members.map(\.key), path: path)
        }
    }

    /// Returns the JSON object in the file at `path`; nil if the file does not exist.
    private static func object(at path: String) throws -> JSONObject? {
        guard isListed(path) else { return nil }
        return try MappedFile(path: path).jsonObject {
            TokenizerError.badFile(path: path, reason: $0)
        }
    }

    private mutating func checkSettings(_ object: JSONObject, path: String) throws {
        func refuse(_ reason: String) -> TokenizerError { .otherKind(path: path, reason: reason) }
        if object["add_eos_token"]?.bool == true {
            throw refuse(
                "add_eos_token is true, expected false: this program does not put <eos> at the end of a document"
            )
        }
        if object["split_special_tokens"]?.bool == true {
            throw refuse(
                "split_special_tokens is true, expected false: this program keeps special tokens whole"
            )
        }
        if let bos = object["bos_token"].flatMap(TokenizerCompanions.content), bos != "<bos>" {
            throw refuse("bos_token is '\(bos)', expected '<bos>'")
        }
        if object["add_bos_token"]?.bool == false {
            warnings.append(
                "\(path): add_bos_token is false, but this program puts <bos> before every document, as in the training of Gemma"
            )
        }
    }

    /// Throws if a token in `tokens` is not an added token of the tokenizer: transformers would find it in texts, but
    /// this program would not.
    private func checkTokens(_ tokens: [String], path: String) throws {
        guard let missing = tokens.first(where: { !added.contains(ExactString($0)) }) else {
            return
        }
        throw TokenizerError.contradiction(
            path: path,
            reason: "has the added token '\(missing)', which \(tokenizer) does not have")
    }

    /// Returns the special tokens and added tokens that `object` names.
    private static func tokens(of object: JSONObject) -> [String] {
        let single = tokenKeys.compactMap { object[$0] }
        let added = object["added_tokens_decoder"]?.object?.members.map(\.value) ?? []
        let lists = ["additional_special_tokens", "extra_special_tokens"].flatMap { key in
            object[key]?.array ?? object[key]?.object?.members.map(\.value) ?? []
        }
        return (added + lists + single).compactMap(content)
    }

    /// Returns a token's text: `value` itself if it is a string, or its `content`.
    private static func content(_ value: JSONValue) -> String? {
        value.string ?? value.object?["content"]?.string
    }
}
