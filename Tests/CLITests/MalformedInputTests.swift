// Bad input never crashes, never leaves part of a file, and says where it is bad and what to do.

import ArrayFiles
import Foundation
import TestSupport
import Testing

struct MalformedInputTests {
    @Test(arguments: checkpoints + tokenizers + corpora + saes + flags + system)
    func isReported(input: MalformedInput) throws {
        var job = try Job()
        try input.damage(&job)
        let outcome = try Tool.run(job.arguments, launcher: job.launcher)
        #expect(outcome.status == input.status, "\(outcome.errors)")
        for mention in input.mentions {
            #expect(outcome.errors.contains(mention), "no '\(mention)' in: \(outcome.errors)")
        }
        #expect(!outcome.errors.contains("Fatal error"), "\(outcome.errors)")
        if isDirectory(job.saveDirectory) {
            let left = try FileManager.default.subpathsOfDirectory(atPath: job.saveDirectory)
            #expect(left.filter { $0 != "run.json" && $0 != ".sae-extract" } == [])
        }
    }

    @Test func thereAreManyAndTheyDiffer() {
        let all =
            Self.checkpoints + Self.tokenizers + Self.corpora + Self.saes + Self.flags + Self.system
        #expect(all.count >= 40)
        #expect(Set(all.map(\.name)).count == all.count)
    }

    // MARK: Checkpoints

    static let checkpoints: [MalformedInput] = [
        MalformedInput(
            "safetensors cut within its length", exits: 65,
            mentioning: ["model.safetensors", "5 bytes", "again"]
        ) {
            try $0.changeModel("model.safetensors") { $0 = Array($0[..<5]) }
        },
        MalformedInput(
            "safetensors cut within its header", exits: 65,
            mentioning: ["model.safetensors", "100 bytes", "again"]
        ) {
            try $0.changeModel("model.safetensors") { $0 = Array($0[..<100]) }
        },
        MalformedInput(
            "safetensors cut within its data", exits: 65,
            mentioning: ["model.safetensors", "tensor model.", "cut short", "download"]
        ) {
            try $0.changeModel("model.safetensors") { $0.removeLast(10) }
        },
        MalformedInput(
            "safetensors cut right after its header", exits: 65,
            mentioning: ["tensor model.", "cut short", "download"]
        ) {
            try $0.changeModel("model.safetensors") { bytes in
                let length = Int(bytes[..<8].withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
                bytes = Array(bytes[..<(8 + length)])
            }
        },
        MalformedInput(
            "empty safetensors", exits: 65, mentioning: ["model.safetensors", "0 bytes", "again"]
        ) {
            try $0.changeModel("model.safetensors") { $0 = [] }
        },
        MalformedInput(
            "safetensors with a huge header length", exits: 65,
            mentioning: ["18446744073709551615", "100,000,000", "again"]
        ) {
            try $0.changeModel("model.safetensors") {
                $0.replaceSubrange(0..<8, with: repeatElement(0xFF, count: 8))
            }
        },
        MalformedInput(
            "safetensors header that is not JSON", exits: 65,
            mentioning: ["bad header", "at byte", "again"]
        ) {
            try $0.changeModel("model.safetensors") { $0[8] = UInt8(ascii: "?") }
        },
        MalformedInput(
            "safetensors header that is an array", exits: 65,
            mentioning: ["not a JSON object", "again"]
        ) {
            try $0.changeModel("model.safetensors") { $0 = [2, 0, 0, 0, 0, 0, 0, 0, 0x5B, 0x5D] }
        },
        MalformedInput(
            "overlapping tensors", exits: 65,
            mentioning: ["tensor model.embed_tokens.weight", "overlap", "again"]
        ) {
            try $0.changeHeader("\"data_offsets\":[0,81920]", "\"data_offsets\":[128,82048]")
        },
        MalformedInput(
            "negative data offset", exits: 65,
            mentioning: ["tensor model.embed_tokens.weight", "data_offsets", "again"]
        ) {
            try $0.changeHeader("\"data_offsets\":[0,81920]", "\"data_offsets\":[-81920,0]")
        },
        MalformedInput(
            "negative size", exits: 65, mentioning: ["tensor model.norm.weight", "[-64]", "again"]
        ) {
            try $0.changeHeader(
                "\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[64]",
                "\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[-64]")
        },
        MalformedInput(
            "size beyond 64 bits", exits: 65,
            mentioning: ["tensor model.norm.weight", "too large", "again"]
        ) {
            try $0.changeHeader(
                "\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[64]",
                "\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[4611686018427387904,4611686018427387904]"
            )
        },
        MalformedInput(
            "size that does not fit the offsets", exits: 65,
            mentioning: ["tensor model.norm.weight", "expected 130", "again"]
        ) {
            try $0.changeHeader(
                "\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[64]",
                "\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[65]")
        },
        MalformedInput(
            "unknown dtype", exits: 65, mentioning: ["tensor model.norm.weight", "FOO", "again"]
        ) {
            try $0.changeHeader(
                "\"model.norm.weight\":{\"dtype\":\"BF16\"",
                "\"model.norm.weight\":{\"dtype\":\"FOO\"")
        },
        MalformedInput(
            "integer weights", exits: 65,
            mentioning: ["tensor model.norm.weight", "dtype I16, expected F32, BF16 or F16"]
        ) {
            try $0.changeHeader(
                "\"model.norm.weight\":{\"dtype\":\"BF16\"",
                "\"model.norm.weight\":{\"dtype\":\"I16\"")
        },
        MalformedInput(
            "missing tensor", exits: 65,
            mentioning: ["tensor model.norm.weight is not in the file", "check"]
        ) {
            try $0.changeHeader("\"model.norm.weight\"", "\"model.norms.weight\"")
        },
        MalformedInput(
            "tensor of another shape", exits: 65,
            mentioning: ["tensor model.norm.weight", "[8, 8]", "expected [64]"]
        ) {
            try $0.changeHeader(
                "\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[64]",
                "\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[8,8]")
        },
        MalformedInput(
            "bytes after the last tensor", exits: 65,
            mentioning: ["model.safetensors", "3 bytes follow", "again"]
        ) {
            try $0.changeModel("model.safetensors") { $0 += [1, 2, 3] }
        },
        MalformedInput(
            "a folder called model.safetensors", exits: 65,
            mentioning: ["model.safetensors", "Is a directory", "give a file"]
        ) {
            try $0.copyModel()
            try FileManager.default.removeItem(atPath: $0.model + "/model.safetensors")
            try FileManager.default.createDirectory(
                atPath: $0.model + "/model.safetensors", withIntermediateDirectories: false)
        },
        MalformedInput(
            "no weights", exits: 65,
            mentioning: ["neither model.safetensors nor model.safetensors.index.json", "give"]
        ) {
            try $0.copyModel()
            try FileManager.default.removeItem(atPath: $0.model + "/model.safetensors")
        },
        MalformedInput(
            "shard index that is not JSON", exits: 65,
            mentioning: ["model.safetensors.index.json", "not JSON", "again"]
        ) {
            try $0.changeShards("model.safetensors.index.json") { $0.removeLast(3) }
        },
        MalformedInput(
            "shard index without weight_map", exits: 65,
            mentioning: ["index.json", "weight_map", "again"]
        ) {
            try $0.changeShards("model.safetensors.index.json") { $0 = Array("{}".utf8) }
        },
        MalformedInput(
            "shard index that names another folder", exits: 65,
            mentioning: ["'../x.safetensors'", "without folders", "again"]
        ) {
            try $0.changeShards("model.safetensors.index.json") { bytes in
                bytes = Array(
                    String(decoding: bytes, as: UTF8.self).replacingOccurrences(
                        of: "model-00001-of-00003.safetensors", with: "../x.safetensors"
                    ).utf8)
            }
        },
        MalformedInput(
            "missing shard", exits: 65,
            mentioning: ["model-00002-of-00003.safetensors", "No such file", "check"]
        ) {
            try $0.changeShards("model.safetensors.index.json") { _ in }
            try FileManager.default.removeItem(
                atPath: $0.model + "/model-00002-of-00003.safetensors")
        },
        MalformedInput(
            "tensor that the index does not have", exits: 65,
            mentioning: ["model.norm.weight", "weight_map", "again"]
        ) {
            try $0.changeShards("model.safetensors.index.json") { bytes in
                bytes = Array(
                    String(decoding: bytes, as: UTF8.self).replacingOccurrences(
                        of: "model.norm.weight", with: "model.norn.weight"
                    ).utf8)
            }
        },
        MalformedInput(
            "NaN in a norm's weights", exits: 65,
            mentioning: ["document 0", "line ", "NaN or infinity in blocks.0.attn.hook_z", "check"]
        ) {
            try $0.changeModel("model.safetensors") { bytes in
                // Layer 0's first norm: bfloat16 NaN in its first element.
                let length = Int(bytes[..<8].withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
                let header = String(decoding: bytes[8..<8 + length], as: UTF8.self)
                let entry = header.components(
                    separatedBy: "\"model.layers.0.input_layernorm.weight\"")[1]
                let offset = Int(
                    entry.components(separatedBy: "\"data_offsets\":[")[1].prefix { $0 != "," })!
                bytes.replaceSubrange(
                    8 + length + offset..<8 + length + offset + 2, with: [0xC0, 0x7F])
            }
        },
        MalformedInput(
            "infinity in the final norm", exits: 65,
            mentioning: ["document 0", "NaN or infinity in the logits", "check"]
        ) {
            try $0.changeModel("model.safetensors") { bytes in
                let length = Int(bytes[..<8].withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
                let header = String(decoding: bytes[8..<8 + length], as: UTF8.self)
                let entry = header.components(separatedBy: "\"model.norm.weight\"")[1]
                let offset = Int(
                    entry.components(separatedBy: "\"data_offsets\":[")[1].prefix { $0 != "," })!
                bytes.replaceSubrange(
                    8 + length + offset..<8 + length + offset + 2, with: [0x80, 0x7F])
            }
        },
        MalformedInput(
            "no config.json", exits: 65, mentioning: ["config.json", "No such file", "check"]
        ) {
            try $0.copyModel()
            try FileManager.default.removeItem(atPath: $0.model + "/config.json")
        },
        MalformedInput(
            "config.json that is not JSON", exits: 65,
            mentioning: ["config.json", "not JSON", "Gemma-2"]
        ) {
            try $0.changeModel("config.json") { $0 = Array($0[..<50]) }
        },
        MalformedInput(
            "empty config.json", exits: 65, mentioning: ["config.json", "not JSON", "Gemma-2"]
        ) {
            try $0.changeModel("config.json") { $0 = [] }
        },
        MalformedInput(
            "config.json nested a million deep", exits: 65,
            mentioning: ["config.json", "deeper than 256", "Gemma-2"]
        ) {
            try $0.changeModel("config.json") {
                $0 = Array(repeating: UInt8(ascii: "["), count: 1_000_000)
            }
        },
        MalformedInput(
            "another model's config.json", exits: 65,
            mentioning: ["model_type is \"llama\"", "expected \"gemma2\""]
        ) {
            try $0.changeModelText("config.json", "\"gemma2\"", "\"llama\"")
        },
        MalformedInput(
            "config.json without a size", exits: 65, mentioning: ["hidden_size is missing", "give"]
        ) {
            try $0.changeModelText("config.json", "\"hidden_size\"", "\"hidden_sizes\"")
        },
        MalformedInput(
            "config.json with a negative size", exits: 65,
            mentioning: ["head_dim is not a whole number", "give"]
        ) {
            try $0.changeModelText("config.json", "\"head_dim\": 32", "\"head_dim\": -32")
        },
        MalformedInput(
            "config.json with a layer too few in layer_types", exits: 65,
            mentioning: ["layer_types", "4 entries", "give"]
        ) {
            try $0.copyModel()
            try $0.removeLayerType()
        },
        MalformedInput(
            "config.json with another activation", exits: 65,
            mentioning: ["hidden_activation is \"relu\"", "gelu_pytorch_tanh"]
        ) {
            try $0.changeModelText(
                "config.json", "\"hidden_activation\": \"gelu_pytorch_tanh\"",
                "\"hidden_activation\": \"relu\"")
        },
    ]

    // MARK: Tokenizers

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
            mentioning: ["tokenizer.json", "'Unigram'", "expected BPE"]
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
            mentioning: ["tokenizer.json", "id 5 is there twice", "again"]
        ) {
            try $0.changeModelText("tokenizer.json", "\"<mask>\": 4", "\"<mask>\": 5")
        },
        MalformedInput(
            "a vocabulary larger than the model's", exits: 65,
            mentioning: ["config.json", "vocab_size is 600", "up to 639"]
        ) {
            try $0.changeModelText("config.json", "\"vocab_size\": 640", "\"vocab_size\": 600")
        },
        MalformedInput(
            "a tokenizer.model that is none", exits: 65,
            mentioning: ["tokenizer.model", "not a SentencePiece model", "again"]
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

    // MARK: Corpora

    static let good =
        "{\"style\": \"a\", \"text\": \"\(Array(repeating: "word", count: 40).joined(separator: " "))\"}"

    static let corpora: [MalformedInput] = [
        MalformedInput(
            "a line that is not JSON", exits: 65,
            mentioning: ["line 2", "not a JSON record", "correct or remove"]
        ) {
            try $0.useCorpus(lines: [good, "{\"style\": \"a\", ", good])
        },
        MalformedInput(
            "two records on a line", exits: 65,
            mentioning: ["line 1", "not a JSON record", "correct or remove"]
        ) {
            try $0.useCorpus(lines: [good + good])
        },
        MalformedInput(
            "a record without an author", exits: 65,
            mentioning: ["line 3", "has no \"style\"", "correct or remove"]
        ) {
            try $0.useCorpus(lines: [good, "", "{\"text\": \"x\"}"])
        },
        MalformedInput(
            "a text that is not a string", exits: 65,
            mentioning: ["line 1", "\"text\" is not a string", "correct or remove"]
        ) {
            try $0.useCorpus(lines: ["{\"style\": \"a\", \"text\": [\"x\"]}"])
        },
        MalformedInput(
            "a record that is not an object", exits: 65,
            mentioning: ["line 2", "not a JSON object", "correct or remove"]
        ) {
            try $0.useCorpus(lines: [good, "17"])
        },
        MalformedInput(
            "invalid UTF-8", exits: 65,
            mentioning: ["line 2", "not valid UTF-8", "byte 24", "correct or remove"]
        ) {
            try $0.useCorpus(
                Array((good + "\n{\"style\": \"a\", \"text\": \"").utf8) + [0xFF, 0xFE]
                    + Array("\"}".utf8))
        },
        MalformedInput(
            "a lone surrogate", exits: 65,
            mentioning: ["line 1", "\"text\" has a lone surrogate", "correct or remove"]
        ) {
            try $0.useCorpus(lines: ["{\"style\": \"a\", \"text\": \"x \\ud83d y\"}"])
        },
        MalformedInput(
            "a raw control character", exits: 65,
            mentioning: ["line 1", "control character 0x01", "correct or remove"]
        ) {
            try $0.useCorpus(lines: ["{\"style\": \"a\", \"text\": \"x \u{1} y\"}"])
        },
        MalformedInput(
            "a record nested a million deep", exits: 65,
            mentioning: ["line 1", "deeper than 256", "correct or remove"]
        ) {
            try $0.useCorpus(lines: [
                "{\"style\": \"a\", \"x\": " + String(repeating: "[", count: 1_000_000)
            ])
        },
        MalformedInput(
            "an empty corpus", exits: 65, mentioning: ["corpus.jsonl", "no records", "--data_path"]
        ) {
            try $0.useCorpus([])
        },
        MalformedInput(
            "a corpus of blank lines", exits: 65,
            mentioning: ["corpus.jsonl", "no records", "--data_path"]
        ) {
            try $0.useCorpus("\n\n  \n".utf8)
        },
        MalformedInput(
            "an array that does not end", exits: 65,
            mentioning: ["line 2", "array does not end", "correct or remove"]
        ) {
            try $0.useCorpus(("[\n" + good + ",").utf8)
        },
        MalformedInput(
            "an array with a missing comma", exits: 65,
            mentioning: ["line 2", "comma", "correct or remove"]
        ) {
            try $0.useCorpus(
                ("[" + good.replacingOccurrences(of: "word word", with: "x") + "\n" + good + "]")
                    .utf8)
        },
        MalformedInput(
            "an array with text after it", exits: 65,
            mentioning: ["line 1", "text follows", "correct or remove"]
        ) {
            try $0.useCorpus(("[{\"style\": \"a\", \"text\": \"x\"}] 1").utf8)
        },
        MalformedInput(
            "a gzip file cut short", exits: 65,
            mentioning: ["corpus.gz", "gzip stream is cut short", "again"]
        ) {
            let whole = try compressed(TestData.bytes(TestData.tiny + "/authormix.jsonl"))
            try $0.useCorpus(whole.dropLast(9), "corpus.gz")
            $0.extra = ["--n_docs", "1000"]
        },
        MalformedInput(
            "a damaged gzip file", exits: 65,
            mentioning: ["corpus.gz", "gzip stream is damaged", "again"]
        ) {
            var whole = try compressed(TestData.bytes(TestData.tiny + "/authormix.jsonl"))
            whole[whole.count / 2] ^= 0xFF
            try $0.useCorpus(whole, "corpus.gz")
            $0.extra = ["--n_docs", "1000"]
        },
        MalformedInput(
            "a damaged zstd file", exits: 65,
            mentioning: ["corpus.zst", "zstd stream is damaged", "again"]
        ) {
            try $0.useCorpus(
                [0x28, 0xB5, 0x2F, 0xFD] + Array(repeating: 0xAB, count: 100), "corpus.zst")
        },
        MalformedInput(
            "a zstd file cut short", exits: 65,
            mentioning: ["corpus.zst", "zstd stream is cut short", "again"]
        ) {
            // A frame's header, and no block.
            try $0.useCorpus([0x28, 0xB5, 0x2F, 0xFD, 0x04, 0x58], "corpus.zst")
        },
        MalformedInput(
            "no author left", exits: 65,
            mentioning: ["no author is left", "60 records", "--min_length_doc"]
        ) {
            $0.extra = ["--min_length_doc", "100000"]
        },
        MalformedInput(
            "only authors that are not there", exits: 65,
            mentioning: ["no author is left", "60 are of authors left out", "--include_authors"]
        ) {
            $0.extra = ["--include_authors", "nobody"]
        },
    ]

    // MARK: SAEs

    static let saes: [MalformedInput] = [
        MalformedInput(
            "an npz with a bad CRC", exits: 65,
            mentioning: ["params.npz", "array W_enc", "CRC-32", "again"]
        ) {
            try $0.changeArchive { $0[20_000] ^= 1 }
        },
        MalformedInput(
            "an npz cut short", exits: 65, mentioning: ["params.npz", "no ZIP directory", "again"]
        ) {
            try $0.changeArchive { $0.removeLast(100) }
        },
        MalformedInput(
            "an empty npz", exits: 65, mentioning: ["params.npz", "no ZIP directory", "again"]
        ) {
            try $0.changeArchive { $0 = [] }
        },
        MalformedInput(
            "an npz without the encoder", exits: 65,
            mentioning: ["params.npz", "array W_enc is not in the archive", "check"]
        ) {
            try $0.changeArchive { $0 = try Job.archive { $0.removeAll { $0.name == "W_enc" } } }
        },
        MalformedInput(
            "an npz of float64", exits: 65,
            mentioning: ["array b_enc has dtype '<f8'", "expected '<f4' or '<f2'"]
        ) {
            try $0.changeArchive { bytes in
                bytes = try Job.archive { arrays in
                    let i = arrays.firstIndex { $0.name == "b_enc" }!
                    arrays[i].header.descr = "<f8"
                    arrays[i].data += arrays[i].data
                }
            }
        },
        MalformedInput(
            "an npz whose shape is not its size", exits: 65,
            mentioning: ["array b_enc has 280 bytes", "[71]", "again"]
        ) {
            try $0.changeArchive { bytes in
                bytes = try Job.archive { arrays in
                    arrays[arrays.firstIndex { $0.name == "b_enc" }!].header.shape = [71]
                }
            }
        },
        MalformedInput(
            "an npz with a negative size", exits: 65,
            mentioning: ["array b_enc has a negative size -70", "again"]
        ) {
            try $0.changeArchive { bytes in
                bytes = try Job.archive { arrays in
                    arrays[arrays.firstIndex { $0.name == "b_enc" }!].header.shape = [-70]
                }
            }
        },
        MalformedInput(
            "an npz with an array that is none", exits: 65,
            mentioning: ["array threshold", "does not begin as a .npy array", "again"]
        ) {
            try $0.changeArchive { bytes in
                var zip = ZipBuilder()
                let junk = Array("hello, this is text".utf8)
                let reader = try NPZReader(path: "\(TestData.tiny)/sae/\(Job.resSAE)/params.npz")
                for name in reader.names.sorted() where name != "threshold" {
                    let (header, data) = try reader.array(name)
                    let member = header.encoded + data
                    zip.add(name + ".npy", member, crc: member.withUnsafeBytes { crc32($0) })
                }
                zip.add("threshold.npy", junk, crc: junk.withUnsafeBytes { crc32($0) })
                bytes = zip.bytes
            }
        },
        MalformedInput(
            "an npz that announces terabytes", exits: 65,
            mentioning: ["array W_enc", "more than its compressed data can hold", "again"]
        ) {
            try $0.changeArchive { bytes in
                var zip = ZipBuilder()
                zip.add("W_enc.npy", [3, 0], crc: 0, method: 8, size: 0xFFFF_FFF0)
                bytes = zip.bytes
            }
        },
        MalformedInput(
            "an npz that does not inflate", exits: 65,
            mentioning: ["array W_enc", "does not inflate", "again"]
        ) {
            try $0.changeArchive { bytes in
                var zip = ZipBuilder()
                zip.add(
                    "W_enc.npy", Array(repeating: 0xFF, count: 64), crc: 0, method: 8, size: 1000)
                bytes = zip.bytes
            }
        },
        MalformedInput(
            "an npz compressed in an unknown way", exits: 65,
            mentioning: ["array W_enc", "compression method 14", "expected stored or deflated"]
        ) {
            try $0.changeArchive { bytes in
                var zip = ZipBuilder()
                zip.add("W_enc.npy", [1, 2, 3], crc: 0, method: 14)
                bytes = zip.bytes
            }
        },
        MalformedInput(
            "an SAE of another width", exits: 65,
            mentioning: ["params.npz", "W_enc has shape [70, 64]", "expected [64, d_sae]", "check"]
        ) {
            try $0.changeArchive { bytes in
                bytes = try Job.archive { arrays in
                    arrays[arrays.firstIndex { $0.name == "W_enc" }!].header.shape = [70, 64]
                }
            }
        },
        MalformedInput(
            "a threshold of another length", exits: 65,
            mentioning: ["threshold has shape [2, 35]", "expected [70]", "check"]
        ) {
            try $0.changeArchive { bytes in
                bytes = try Job.archive { arrays in
                    arrays[arrays.firstIndex { $0.name == "threshold" }!].header.shape = [2, 35]
                }
            }
        },
        MalformedInput(
            "an SAE folder without files", exits: 65,
            mentioning: ["average_l0_46", "neither params.npz nor cfg.json", "--target_l0"]
        ) {
            try $0.changeArchive { _ in }
            try FileManager.default.removeItem(atPath: "\($0.saes)/\(Job.resSAE)/params.npz")
        },
        MalformedInput(
            "a TopK SAE", exits: 65,
            mentioning: ["cfg.json", "architecture is topk", "expected jumprelu"]
        ) {
            try $0.changeSAEConfig("jumprelu", "topk")
        },
        MalformedInput(
            "an SAE that subtracts b_dec", exits: 65,
            mentioning: ["cfg.json", "apply_b_dec_to_input", "Gemma Scope"]
        ) {
            try $0.changeSAEConfig(
                "\"apply_b_dec_to_input\": false", "\"apply_b_dec_to_input\": true")
        },
        MalformedInput(
            "an SAE of another hook", exits: 65,
            mentioning: [
                "cfg.json", "blocks.3.hook_resid_post", "expected blocks.0.hook_resid_post",
            ]
        ) {
            try $0.changeSAEConfig("blocks.0.hook_resid_post", "blocks.3.hook_resid_post")
        },
        MalformedInput(
            "an SAE configuration that is not JSON", exits: 65,
            mentioning: ["cfg.json", "not JSON"]
        ) {
            try $0.changeSAEConfig("{", "")
        },
    ]

    // MARK: Flags

    static let flags: [MalformedInput] = [
        MalformedInput(
            "a layer that the model does not have", exits: 64,
            mentioning: ["--layers: 4 is out of range", "4 layers, 0 to 3"]
        ) {
            $0.extra = ["--layers", "0", "4"]
        },
        MalformedInput(
            "a negative layer", exits: 64, mentioning: ["--layers: -1 is out of range", "0 to 3"]
        ) {
            $0.extra = ["--layers", "-1"]
        },
        MalformedInput(
            "an unknown model", exits: 64,
            mentioning: ["--model", "'gpt2'", "google/gemma-2-2b, google/gemma-2-9b"]
        ) {
            $0.extra = ["--model", "gpt2"]
        },
        MalformedInput(
            "a width that does not exist", exits: 64,
            mentioning: ["no SAE of width 32k", "16k, 65k", "--sae_features"]
        ) {
            $0.saes = TestData.tiny + "/sae"
            $0.extra = ["--sae_features", "32k"]
        },
        MalformedInput(
            "an L0 that does not exist", exits: 64,
            mentioning: ["no SAE average_l0_50", "13, 46, 105", "--sae_id"]
        ) {
            $0.saes = TestData.tiny + "/sae"
            $0.extra = ["--sae_id", "res:layer_0/width_16k/average_l0_50"]
        },
        MalformedInput(
            "an SAE id for a layer not asked for", exits: 64,
            mentioning: ["--sae_id", "res:layer_1", "--layers"]
        ) {
            $0.extra = ["--sae_id", "res:layer_1/width_16k/average_l0_40"]
        },
        MalformedInput(
            "an SAE id that is none", exits: 64, mentioning: ["--sae_id", "res/layer_1"]
        ) {
            $0.extra = ["--sae_id", "res/layer_1"]
        },
        MalformedInput(
            "a site that does not exist", exits: 64,
            mentioning: ["--layer_types", "resid", "'res', 'mlp'"]
        ) {
            $0.extra = ["--layer_types", "resid"]
        },
        MalformedInput(
            "a folder without SAEs", exits: 64,
            mentioning: ["--sae_dir has no res SAEs", "gemma-scope-2b-pt-res", "--layer_types"]
        ) {
            $0.saes = $0.folder.path
        },
        MalformedInput(
            "an SAE folder that does not exist", exits: 64,
            mentioning: ["--sae_dir: /nowhere does not exist", "check"]
        ) {
            $0.saes = "/nowhere"
        },
        MalformedInput(
            "a model folder that does not exist", exits: 64,
            mentioning: ["--model_path: /nowhere does not exist", "check"]
        ) {
            $0.model = "/nowhere"
        },
        MalformedInput(
            "a corpus that does not exist", exits: 64,
            mentioning: ["--data_path: /nowhere does not exist", "check"]
        ) {
            $0.corpus = "/nowhere"
        },
        MalformedInput(
            "a folder for a corpus", exits: 64,
            mentioning: ["--data_path", "is a folder", "give a file"]
        ) {
            $0.corpus = TestData.tiny
        },
        MalformedInput(
            "a file for a save folder", exits: 74, mentioning: ["corpus.jsonl", "cannot create"]
        ) {
            try $0.useCorpus(good.utf8)
            $0.saveDirectory = $0.corpus
        },
        MalformedInput("a batch of nothing", exits: 64, mentioning: ["--batch_size", "'0'"]) {
            $0.extra = ["--batch_size", "0"]
        },
        MalformedInput(
            "no threads", exits: 64, mentioning: ["--threads: 0 is too small", "1 or more"]
        ) {
            $0.extra = ["--threads", "0"]
        },
        MalformedInput(
            "a sequence of one token", exits: 64,
            mentioning: ["--max_seq_len: 1 is out of range", "2 to 512"]
        ) {
            $0.extra = ["--max_seq_len", "1"]
        },
        MalformedInput(
            "a sequence longer than the model's", exits: 64,
            mentioning: ["--max_seq_len: 513 is out of range", "2 to 512"]
        ) {
            $0.extra = ["--max_seq_len", "513"]
        },
        MalformedInput(
            "a prefix too long for the model", exits: 64,
            mentioning: ["--prefix", "512 positions", "shorten"]
        ) {
            $0.extra = ["--max_seq_len", "510", "--prefix", "The tide rose over the old pier."]
        },
        MalformedInput(
            "a negative threshold", exits: 64, mentioning: ["--feature_threshold", "-1"]
        ) {
            $0.extra = ["--feature_threshold", "-1"]
        },
        MalformedInput(
            "an unknown flag", exits: 64, mentioning: ["Unknown option '--layer'", "'--layers'"]
        ) {
            $0.extra = ["--layer", "3"]
        },
    ]

    // MARK: The system

    /// Puts a command under another user where tests run as root, for whom no file is forbidden.
    private static let asNobody =
        getuid() == 0 ? ["/usr/bin/setpriv", "--reuid=65534", "--clear-groups"] : []

    static let system: [MalformedInput] = [
        MalformedInput(
            "a corpus that may not be read", exits: 64,
            mentioning: ["--data_path", "cannot be read", "permissions"]
        ) {
            try $0.useCorpus(good.utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: $0.corpus)
            $0.launcher = asNobody
        },
        MalformedInput(
            "weights that may not be read", exits: 74,
            mentioning: ["model.safetensors", "Permission denied", "permissions"]
        ) {
            try $0.copyModel()
            try FileManager.default.setAttributes(
                [.posixPermissions: 0], ofItemAtPath: $0.model + "/model.safetensors")
            try $0.makeWritableForAll()
            $0.launcher = asNobody
        },
        MalformedInput(
            "a folder that may not be written", exits: 74,
            mentioning: ["cannot create", "Permission denied", "permissions"]
        ) {
            $0.launcher = asNobody
            try FileManager.default.setAttributes(
                [.posixPermissions: 0o555], ofItemAtPath: $0.folder.path)
        },
        MalformedInput(
            "a disk that is full", exits: 74,
            mentioning: ["cannot write", "File too large", "run the same command again"]
        ) {
            // The limit is in KiB: enough for the log, not for a file of results.
            $0.launcher = ["/bin/bash", "-c", "ulimit -f 4; exec \"$@\"", "bash"]
        },
        MalformedInput(
            "a run.json of somebody else's", exits: 64,
            mentioning: ["--save_dir", "run.json", "move it away"]
        ) {
            try $0.folder.write("[]".utf8, "out/run.json")
        },
    ]
}

extension Job {
    /// Removes one entry of `layer_types`.
    fileprivate mutating func removeLayerType() throws {
        let path = model + "/config.json"
        let text = String(decoding: try TestData.bytes(path), as: UTF8.self)
        let range = text.range(of: "\"sliding_attention\",")!
        try TestData.write(text.replacingCharacters(in: range, with: "").utf8, to: path)
    }

    /// Lets any user write results beside the inputs.
    fileprivate func makeWritableForAll() throws {
        try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: folder.path)
    }
}

/// `bytes` as a gzip file.
func compressed(_ bytes: [UInt8]) throws -> [UInt8] {
    var out: [UInt8] = []
    try bytes.withUnsafeBytes { input in
        try Deflater(.gzip, level: 6).write(input, finish: true) { out += $0 }
    }
    return out
}
