// Tests of the other files in a tokenizer's folder, whose tokens change the ids that transformers computes.

import ByteJSON
import Foundation
import TestSupport
import Testing

@testable import Tokenization

struct TokenizerCompanionsTests {
    private let folder: TemporaryFolder
    private static let source = TestData.tiny + "/model-single/"

    init() throws {
        folder = try TemporaryFolder()
        for name in [
            "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
        ] {
            try folder.copy(Self.source + name, name)
        }
    }

    private func change(_ name: String, _ change: (inout JSONObject) -> Void) throws {
        try folder.write(changedJSON(Self.source + name, change), name)
    }

    private func refusal() throws -> String {
        let error = #expect(throws: TokenizerError.self) {
            try TokenizerFiles.check(directory: folder.path)
        }
        return "\(String(describing: error))"
    }

    /// Checks that the fixture's files are accepted with `tokenizer.json` and with `tokenizer.model`.
    @Test(arguments: [true, false])
    func filesThatAgree(isJSON: Bool) throws {
        if !isJSON { try FileManager.default.removeItem(atPath: folder.file("tokenizer.json")) }
        let (warnings, bos) = try TokenizerFiles.check(directory: folder.path)
        #expect(warnings == [] && bos == 2)
        try change("tokenizer_config.json") { $0["add_bos_token"] = .bool(false) }
        let said = try TokenizerFiles.check(directory: folder.path).warnings
        #expect(said.count == 1 && said[0].contains("add_bos_token"))
    }

    @Test(arguments: [true, false])
    func tokensThatTheTokenizerLacks(isJSON: Bool) throws {
        if !isJSON { try FileManager.default.removeItem(atPath: folder.file("tokenizer.json")) }
        let token = JSONValue.object(["content": "<|im|>"])
        let changes: [(inout JSONObject) -> Void] = [
            {
                var tokens = $0["added_tokens_decoder"]!.object!
                tokens["640"] = token
                $0["added_tokens_decoder"] = .object(tokens)
            },
            { $0["additional_special_tokens"] = .array(["<|im|>"]) },
            { $0["additional_special_tokens"] = .array([token]) },
            { $0["extra_special_tokens"] = .object(["turn": "<|im|>"]) },
            { $0["pad_token"] = token },
        ]
        for each in changes {
            try change("tokenizer_config.json", each)
            let said = try refusal()
            #expect(said.contains("tokenizer_config.json: has the added token '<|im|>'"), "\(said)")
            #expect(said.contains(isJSON ? "tokenizer.json" : "tokenizer.model"))
            #expect(said.contains("save the tokenizer again"))
        }
        try change("tokenizer_config.json") { _ in }
        try change("special_tokens_map.json") { $0["eos_token"] = "<|im|>" }
        #expect(try refusal().contains("special_tokens_map.json: has the added token '<|im|>'"))
        try change("special_tokens_map.json") { _ in }
        try folder.write(#"{"<|im|>": 640}"#.utf8, "added_tokens.json")
        #expect(try refusal().contains("added_tokens.json: has the added token '<|im|>'"))
    }

    @Test func settingsThatChangeIds() throws {
        let settings: [(String, JSONValue)] = [
            ("add_eos_token", .bool(true)), ("split_special_tokens", .bool(true)),
            ("bos_token", "<s>"),
        ]
        for (key, value) in settings {
            try change("tokenizer_config.json") { $0[key] = value }
            let said = try refusal()
            #expect(said.contains("tokenizer_config.json: \(key) is"), "\(said)")
            #expect(said.contains("expected"))
        }
        try folder.write("[1]".utf8, "tokenizer_config.json")
        #expect(try refusal().contains("is [1], expected a JSON object"))
        try folder.write("{".utf8, "tokenizer_config.json")
        #expect(try refusal().contains("not JSON"))
    }

    /// Checks that an added token outside the vocabulary must have the next free id. Hugging Face's tokenizers
    /// library gives it this id and ignores the id in the file.
    @Test(arguments: [640, 650])
    func addedTokensHaveTheNextID(id: Int) throws {
        try change("tokenizer.json") {
            let token = JSONValue.object([
                "id": .integer(id), "content": "<|im|>", "single_word": .bool(false),
                "lstrip": .bool(false), "rstrip": .bool(false), "normalized": .bool(false),
                "special": .bool(false),
            ])
            $0["added_tokens"] = .array($0["added_tokens"]!.array! + [token])
        }
        if id == 640 {
            let ids = try GemmaTokenizer(directory: folder.path).encode("a<|im|>")
            #expect(ids.last == 640)
        } else {
            let error = #expect(throws: TokenizerError.self) {
                try GemmaTokenizer(directory: folder.path)
            }
            let said = "\(String(describing: error))"
            #expect(
                said.contains("'<|im|>' has id 650") && said.contains("the next free id, 640"),
                "\(said)")
        }
    }
}
