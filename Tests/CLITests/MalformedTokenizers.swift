// Test cases with damaged tokenizers.

import Foundation
import TestSupport

extension MalformedInputTests {
    static let tokenizers: [MalformedInput] = [
        MalformedInput(
            "no tokenizer", exits: 65,
            mentioning: ["neither tokenizer.json nor tokenizer.model", "copy one"]
        ) {
            try $0.copyModel()
            for name in ["tokenizer.json", "tokenizer.model"] {
                try FileManager.default.removeItem(atPath: "\($0.model)/\(name)")
            }
        },
        MalformedInput(
            "tokenizer.json cut short", exits: 65,
            mentioning: ["tokenizer.json", "not the JSON of a tokenizer", "at byte", "again"]
        ) {
            try $0.changeModel("tokenizer.json") { $0.removeLast(1000) }
        },
        MalformedInput(
            "a merge whose part is not in the vocabulary", exits: 65,
            mentioning: ["tokenizer.json", "merge 0", "'Qx'", "again"]
        ) {
            try $0.changeModel("tokenizer.json") { bytes in
                let text = String(decoding: bytes, as: UTF8.self)
                let range = text.range(of: "\"merges\": [")!
                bytes = Array(
                    text.replacingCharacters(in: range, with: "\"merges\": [\"Qx y\",").utf8)
            }
        },
        MalformedInput(
            "a merge of three parts", exits: 65,
            mentioning: ["tokenizer.json", "not two pieces", "again"]
        ) {
            try $0.changeModel("tokenizer.json") { bytes in
                let text = String(decoding: bytes, as: UTF8.self)
                let range = text.range(of: "\"merges\": [")!
                bytes = Array(
                    text.replacingCharacters(in: range, with: "\"merges\": [[\"a\",\"b\",\"c\"],")
                        .utf8)
            }
        },
        MalformedInput(
            "another kind of tokenizer", exits: 65,
            mentioning: ["tokenizer.json", "type \"Unigram\"", "expected \"BPE\"", "take the file"]
        ) {
            try $0.changeModelText("tokenizer.json", "\"type\": \"BPE\"", "\"type\": \"Unigram\"")
        },
        MalformedInput(
            "a tokenizer that normalizes otherwise", exits: 65,
            mentioning: ["tokenizer.json", "normalizer", "U+2581"]
        ) {
            try $0.changeModelText("tokenizer.json", "\"type\": \"Replace\"", "\"type\": \"NFC\"")
        },
        MalformedInput(
            "two pieces with one id", exits: 65,
            mentioning: ["tokenizer.json", "id 5 is used twice", "again"]
        ) {
            try $0.changeModelText("tokenizer.json", "\"<mask>\": 4", "\"<mask>\": 5")
        },
        MalformedInput(
            "a vocabulary larger than the model's", exits: 65,
            mentioning: ["config.json", "vocab_size is 640", "tokenizer.json", "up to 640", "641"]
        ) {
            try $0.addToken(#"{"id": 640, "content": "<|im|>", "normalized": false}"#)
        },
        MalformedInput(
            "an embedding of other rows than vocab_size", exits: 65,
            mentioning: [
                "model.embed_tokens.weight", "[640, 64]", "expected [600, 64]", "vocab_size",
            ]
        ) {
            try $0.changeModelText("config.json", "\"vocab_size\": 640", "\"vocab_size\": 600")
        },
        MalformedInput(
            "an added token of the normalized text", exits: 65,
            mentioning: ["tokenizer.json", "added token '<|im|>'", "normalized", "take the file"]
        ) {
            try $0.addToken(#"{"id": 640, "content": "<|im|>", "normalized": true}"#)
        },
        MalformedInput(
            "a tokenizer with dropout", exits: 65,
            mentioning: ["tokenizer.json", "model.dropout is 0.1", "take the file"]
        ) {
            try $0.changeModelText("tokenizer.json", "\"dropout\": null", "\"dropout\": 0.1")
        },
        MalformedInput(
            "a tokenizer.model that is none", exits: 65,
            mentioning: [
                "tokenizer.model", "is text", "'hello, world'", "not a SentencePiece model",
                "again",
            ]
        ) {
            try $0.changeModel("tokenizer.model") { $0 = Array("hello, world".utf8) }
            try FileManager.default.removeItem(atPath: $0.model + "/tokenizer.json")
        },
        MalformedInput(
            "a tokenizer.model cut short", exits: 65,
            mentioning: ["tokenizer.model", "cut short or damaged", "again"]
        ) {
            try $0.changeModel("tokenizer.model") { $0.removeLast(20) }
            try FileManager.default.removeItem(atPath: $0.model + "/tokenizer.json")
        },
    ]
}

extension Job {
    /// Uses a copy of the single-file checkpoint whose tokenizer has the added token `entry`.
    fileprivate mutating func addToken(_ entry: String) throws {
        try changeModelText(
            "tokenizer.json", "\"added_tokens\": [", "\"added_tokens\": [\(entry),")
    }
}
