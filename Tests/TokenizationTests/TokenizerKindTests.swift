// Tests that a tokenizer's file is refused if it would give other ids than Gemma's tokenizer.

import ByteJSON
import TestSupport
import Testing

@testable import Tokenization

struct TokenizerKindTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// Reads the fixture's `tokenizer.json` after `change`. Checks that `TokenizerFiles.check` gives the same error
    /// or the same `bos` as reading the whole file.
    private func read(
        _ change: (inout JSONObject) -> Void
    ) throws -> (tokenizer: GemmaTokenizer, warnings: [String]) {
        let path = try folder.write(
            changedJSON(TestData.tiny + "/model-single/tokenizer.json", change), "tokenizer.json")
        do {
            let (warnings, bos) = try TokenizerFiles.check(directory: folder.path)
            let tokenizer = try GemmaTokenizer(tokenizerJSON: path)
            #expect(bos.map(TokenID.init) == tokenizer.bos)
            return (tokenizer, warnings)
        } catch let error as TokenizerError {
            #expect(throws: error) { try GemmaTokenizer(tokenizerJSON: path) }
            throw error
        }
    }

    private func model(_ key: String, _ value: JSONValue) throws -> (GemmaTokenizer, [String]) {
        try read {
            var model = $0["model"]!.object!
            model[key] = value
            $0["model"] = .object(model)
        }
    }

    private func refusal(_ body: () throws -> Any) -> String {
        let error = #expect(throws: TokenizerError.self) { try body() }
        let text = "\(String(describing: error))"
        #expect(text.contains("tokenizer.json: "))
        return text
    }

    private static let text = "The tide\n\n rose <bos> over 12 piers…"

    @Test func formsThatMeanTheSame() throws {
        let whole = try read { _ in }
        let ids = whole.tokenizer.encode(Self.text)
        #expect(whole.warnings == [])
        let changes: [(inout JSONObject) -> Void] = [
            { $0["pre_tokenizer"] = nil }, { $0["pre_tokenizer"] = .null },
            { $0["post_processor"] = .null }, { $0["decoder"] = .object(["type": "Metaspace"]) },
            {
                $0["truncation"] = .object(["max_length": 8])
                $0["padding"] = .object(["strategy": "x"])
            },
            {
                $0["normalizer"] = .object([
                    "type": "Sequence", "normalizers": [$0["normalizer"]!],
                ])
            },
            {
                $0["post_processor"] = .object([
                    "type": "Sequence",
                    "processors": [.object(["type": "ByteLevel"]), $0["post_processor"]!],
                ])
            },
        ]
        for change in changes {
            let (tokenizer, warnings) = try read(change)
            #expect(tokenizer.encode(Self.text) == ids && warnings == [])
        }
        for (key, value) in [
            ("dropout", 0), ("dropout", .number(0)), ("ignore_merges", .null),
            ("unk_token", .null), ("fuse_unk", .bool(false)), ("end_of_word_suffix", ""),
        ] as [(String, JSONValue)] {
            let (tokenizer, warnings) = try model(key, value)
            #expect(tokenizer.encode(Self.text) == ids && warnings == [])
        }
    }

    @Test(
        arguments: [
            ("dropout", .number(0.1), "model.dropout is 0.1"),
            ("ignore_merges", .bool(true), "model.ignore_merges is true"),
            ("continuing_subword_prefix", "##", "model.continuing_subword_prefix is \"##\""),
            ("end_of_word_suffix", "</w>", "model.end_of_word_suffix is \"</w>\""),
            ("type", "Unigram", "type \"Unigram\""),
            ("type", .null, "type null"),
            ("byte_fallback", .bool(false), "byte_fallback false"),
        ] as [(String, JSONValue, String)])
    func otherModelsAreRefused(key: String, value: JSONValue, reason: String) throws {
        let text = refusal { try model(key, value) }
        #expect(text.contains(reason) && text.contains("take the file"), "\(text)")
    }

    @Test(
        arguments: [
            (
                "normalizer",
                .object([
                    "type": "Sequence",
                    "normalizers": [
                        .object([
                            "type": "Replace", "pattern": .object(["String": " "]),
                            "content": "\u{2581}",
                        ]),
                        .object(["type": "NFKC"]),
                    ],
                ]), "NFKC"
            ),
            ("normalizer", .object(["type": "Lowercase"]), "{\"type\":\"Lowercase\"}"),
            ("normalizer", .null, "normalizer is null"),
            (
                "pre_tokenizer", .object(["type": "Metaspace", "prepend_scheme": "always"]),
                "Metaspace"
            ),
            (
                "pre_tokenizer",
                .object([
                    "type": "Split", "pattern": .object(["Regex": "\\d"]), "invert": .bool(false),
                ]),
                "Regex"
            ),
            (
                "pre_tokenizer",
                .object(["type": "Sequence", "pretokenizers": [.object(["type": "Digits"])]]),
                "Digits"
            ),
            (
                "post_processor",
                .object([
                    "type": "TemplateProcessing",
                    "single": [
                        .object(["Sequence": .object(["id": "A"])]),
                        .object(["SpecialToken": .object(["id": "<eos>"])]),
                    ],
                ]), "post_processor"
            ),
            ("post_processor", .object(["type": "BertProcessing"]), "BertProcessing"),
        ] as [(String, JSONValue, String)])
    func otherStepsAreRefused(key: String, value: JSONValue, reason: String) {
        let text = refusal { try read { $0[key] = value } }
        #expect(text.contains("its \(key) is ") && text.contains(reason), "\(text)")
    }

    @Test func twoPostProcessorsWouldPutTwoBOS() {
        let text = refusal {
            try read {
                let processor = $0["post_processor"]!
                $0["post_processor"] = .object([
                    "type": "Sequence", "processors": [processor, processor],
                ])
            }
        }
        #expect(text.contains("puts <bos> before a text more than once"), "\(text)")
    }

    @Test(arguments: [
        ("added_tokens", "added_tokens is null, expected a list"),
        ("model", "model is null, expected an object"),
        ("vocab", "model.vocab is null, expected an object"),
        ("merges", "model.merges is null, expected a list"),
    ])
    func nullIsNamed(key: String, reason: String) {
        let text = refusal {
            try read {
                if ["vocab", "merges"].contains(key) {
                    var model = $0["model"]!.object!
                    model[key] = .null
                    $0["model"] = .object(model)
                } else {
                    $0[key] = .null
                }
            }
        }
        #expect(text.contains(reason), "\(text)")
    }

    @Test(arguments: ["vocab", "merges"])
    func whatIsMissingIsNamed(part: String) {
        let text = refusal {
            try read {
                var model = $0["model"]!.object!
                model[part] = nil
                $0["model"] = .object(model)
            }
        }
        #expect(text.contains("its model has no \(part)"), "\(text)")
    }

    private func addToken(_ rest: JSONObject) -> (inout JSONObject) -> Void {
        {
            var token = JSONObject([("id", 640), ("content", "<|im|>")])
            for (key, value) in rest.members { token[key] = value }
            $0["added_tokens"] = .array($0["added_tokens"]!.array! + [.object(token)])
        }
    }

    @Test func addedTokensAreTakenOrNamed() throws {
        let (tokenizer, warnings) = try read(
            addToken(["normalized": .bool(false), "special": .bool(false)]))
        #expect(tokenizer.count == 641 && warnings == [])
        #expect(tokenizer.encode("a<|im|>b").contains(640))
        for key in ["normalized", "lstrip", "rstrip", "single_word"] {
            let text = refusal { try read(addToken([key: .bool(true)])) }
            #expect(text.contains("added token '<|im|>': \(key) is true"), "\(text)")
        }
    }

    @Test func unknownKeysAreNamedOnce() throws {
        let (_, warnings) = try read {
            $0["flavour"] = 1
            addToken(["colour": "red", "normalized": .bool(false)])(&$0)
            var model = $0["model"]!.object!
            model["taste"] = .null
            $0["model"] = .object(model)
        }
        #expect(warnings.count == 1)
        for name in ["flavour", "model.taste", "added_tokens.colour"] {
            #expect(warnings[0].contains(name), "\(warnings)")
        }
    }

    /// Checks that a `tokenizer.model` is refused if a setting differs from Gemma's. Fields at the end of the file
    /// replace earlier values, because the last value of a field counts.
    @Test(
        arguments: [
            (3, [0x18, 1], "normalizer_spec.add_dummy_prefix is true"),
            (3, [0x20, 1], "normalizer_spec.remove_extra_whitespaces is true"),
            (3, [0x28, 0], "normalizer_spec.escape_whitespaces is false"),
            (3, [0x12, 2, 7, 7], "normalizer_spec.precompiled_charsmap has 2 bytes"),
            (2, [0xC0, 1, 1], "trainer_spec.treat_whitespace_as_suffix is true"),
            (2, [0x98, 2, 0], "trainer_spec.byte_fallback is false"),
            (2, [0x18, 1], "its model_type is 1, expected 2"),
        ] as [(Int, [UInt8], String)])
    func otherSentencePieceModelsAreRefused(
        field: Int, bytes: [UInt8], reason: String
    ) throws {
        let own = try TestData.bytes(TestData.tiny + "/model/tokenizer.model")
        let path = try folder.write(
            own + [UInt8(field << 3 | 2), UInt8(bytes.count)] + bytes, "tokenizer.model")
        for read in [
            { _ = try GemmaTokenizer(sentencePieceModel: path) },
            { _ = try TokenizerFiles.check(directory: folder.path) },
        ] {
            let error = #expect(throws: TokenizerError.self) { try read() }
            #expect("\(String(describing: error))".contains("tokenizer.model: "))
            #expect("\(String(describing: error))".contains(reason), "\(reason)")
        }
    }
}
