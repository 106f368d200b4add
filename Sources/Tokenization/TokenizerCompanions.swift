// What lies beside a tokenizer's file and, where transformers reads it, changes ids too.
// Keys: transformers, tokenization_utils_base.py and tokenization_utils_fast.py.

import ByteJSON
import Files

/// The files beside a tokenizer's own: `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`.
struct TokenizerCompanions {
    /// The path of the tokenizer's file.
    private let tokenizer: String
    /// The tokens that the tokenizer cuts out of texts.
    private let added: Set<ExactString>
    /// What is to be said. Each names its file.
    private(set) var warnings: [String] = []

    /// Keys that name one special token each.
    private static let tokenKeys = [
        "bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token",
    ]

    /// Looks at those that are in `directory`. Throws `FileError`, `UnexpectedFileError` or `TokenizerError` where one of
    /// them is damaged, or would change ids.
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

    /// The object at `path`; nil where there is no file.
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
                "add_eos_token is true, expected false: this program ends no document with <eos>")
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
                "\(path): add_bos_token is false, but every document begins with <bos> here, as Gemma was trained"
            )
        }
    }

    /// Fails where one of `tokens` is not among the tokenizer's: transformers adds it, and cuts it out of texts.
    private func checkTokens(_ tokens: [String], path: String) throws {
        guard let missing = tokens.first(where: { !added.contains(ExactString($0)) }) else {
            return
        }
        throw TokenizerError.contradiction(
            path: path,
            reason: "has the added token '\(missing)', which is none of \(tokenizer)'s")
    }

    /// The tokens that `object` names.
    private static func tokens(of object: JSONObject) -> [String] {
        let single = tokenKeys.compactMap { object[$0] }
        let added = object["added_tokens_decoder"]?.object?.members.map(\.value) ?? []
        let lists = ["additional_special_tokens", "extra_special_tokens"].flatMap { key in
            object[key]?.array ?? object[key]?.object?.members.map(\.value) ?? []
        }
        return (added + lists + single).compactMap(content)
    }

    /// A token's text: the value itself, or its `content`.
    private static func content(_ value: JSONValue) -> String? {
        value.string ?? value.object?["content"]?.string
    }
}
