// Tests of the tensors in a checkpoint: which must exist, which are refused, and which other names are accepted.

import ArrayFiles
import Foundation
import TestSupport
import Testing

@testable import Gemma2

struct CheckpointTensorsTests {
    private let folder: TemporaryFolder
    private let config: Gemma2Config

    init() throws {
        folder = try TemporaryFolder()
        config = try Gemma2Config(path: TestData.tiny + "/model-single/config.json")
    }

    /// Returns the tensors of the single-file checkpoint after `change`.
    private func tensors(
        tied: Bool = true, _ change: (inout SafetensorsBuilder) -> Void
    ) throws -> CheckpointTensors {
        var builder = try SafetensorsBuilder(
            copyOf: TestData.tiny + "/model-single/model.safetensors")
        change(&builder)
        try folder.write(builder.bytes(), "model.safetensors")
        var config = config
        config.hasTiedEmbeddings = tied
        return try CheckpointTensors(CheckpointFiles(directory: folder.path), config)
    }

    private func rename(_ builder: inout SafetensorsBuilder, _ change: (String) -> String) {
        for i in builder.entries.indices {
            builder.entries[i].name = change(builder.entries[i].name)
        }
    }

    private func zeros(_ builder: inout SafetensorsBuilder, _ name: String, _ count: Int = 4) {
        builder.add(name, [count], [Float](repeating: 0, count: count))
    }

    @Test func theFixtureHasNothingElse() throws {
        #expect(try tensors { _ in }.warnings == [])
    }

    @Test(
        arguments: [
            ("model.layers.0.self_attn.q_proj.bias", "a bias"),
            ("lm_head.bias", "a bias"), ("model.norm.bias", "a bias"),
            ("model.layers.1.self_attn.q_norm.weight", "a norm that Gemma-2 does not have"),
            ("model.layers.3.mlp.sub_layernorm.weight", "a norm"),
            ("model.layers.0.self_attn.q_proj.lora_A.default.weight", "adapter"),
            ("base_model.model.model.layers.0.mlp.up_proj.base_layer.weight", "adapter"),
            ("model.layers.0.self_attn.q_proj.weight.absmax", "quantised"),
            ("model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4", "quantised"),
            ("model.layers.0.mlp.up_proj.qweight", "quantised"),
            ("model.layers.0.mlp.up_proj.weight_scale", "quantised"),
            ("model.layers.0.mlp.up_proj.scales", "quantised"),
            ("model.layers.0.mlp.up_proj.SCB", "quantised"),
            ("model.layers.0.self_attn.kv_scale", "quantised"),
            ("model.layers.0.mlp.up_proj.hada_w1_a", "adapter"),
        ])
    func whatWouldChangeNumbersIsRefused(name: String, reason: String) throws {
        let error = #expect(throws: CheckpointError.self) { try tensors { zeros(&$0, name) } }
        let text = "\(String(describing: error))"
        #expect(text.contains("model.safetensors: tensor \(name) "), "\(text)")
        #expect(text.contains(reason), "\(text)")
    }

    @Test func whatChangesNothingPasses() throws {
        let found = try tensors {
            zeros(&$0, "model.layers.0.self_attn.rotary_emb.inv_freq", 16)
            // A tensor of another element type is accepted if the model does not need it.
            $0.add("extra.small", "F4", [64], [UInt8](repeating: 0, count: 32))
            $0.add("extra.odd", "F6_E2M3", [64], [UInt8](repeating: 0, count: 48))
            $0.add("v_head.summary.bias", "I32", [1], [0, 0, 0, 0])
            for i in 0..<9 { zeros(&$0, "model.layers.\(i + 4).input_layernorm.weight") }
            for name in ["model.", "model...", "."] { zeros(&$0, name) }
        }
        #expect(found.warnings.count == 1)
        #expect(found.warnings[0].contains("tensors that are not known"))
        #expect(found.warnings[0].contains("extra.small") && found.warnings[0].contains(" more;"))
        #expect(!found.warnings[0].contains("inv_freq"))
    }

    /// Checks that an unembedding is refused if it differs from the embedding to which it is tied. The program cannot
    /// know which of the two to use.
    @Test func aTiedUnembeddingIsTheEmbedding() throws {
        func addHead(_ builder: inout SafetensorsBuilder, _ change: (inout [UInt8]) -> Void) {
            let embedding = builder.entries.first { $0.name == "model.embed_tokens.weight" }!
            var data = embedding.data
            change(&data)
            builder.add("lm_head.weight", embedding.dtype, embedding.shape, data)
        }
        #expect(try tensors { addHead(&$0) { _ in } }.warnings == [])
        let error = #expect(throws: CheckpointError.self) {
            try tensors { addHead(&$0) { data in data[data.count - 1] ^= 0x80 } }
        }
        let text = "\(String(describing: error))"
        #expect(text.contains("tensor lm_head.weight differs from model.embed_tokens.weight"))
        #expect(text.contains("tie_word_embeddings"))
        // If the embeddings are not tied, the unembedding may have any value.
        #expect(try tensors(tied: false) { addHead(&$0) { $0[0] ^= 1 } }.warnings == [])
    }

    @Test func aMissingUnembeddingIsExplained() throws {
        let error = #expect(throws: CheckpointError.self) { try tensors(tied: false) { _ in } }
        let text = "\(String(describing: error))"
        #expect(text.contains("lm_head.weight") && text.contains("tie_word_embeddings is false"))
    }

    /// Checks names without "model." at the front. `save_pretrained` writes them for the model without its head, and
    /// transformers adds "model." when it reads them.
    @Test func namesWithoutPrefixAreTaken() throws {
        let plain = try tensors { _ in }.tensor("model.layers.2.mlp.up_proj.weight").floats()
        let short = try tensors { rename(&$0) { String($0.dropFirst("model.".count)) } }
        #expect(short.warnings == [])
        #expect(try short.tensor("model.layers.2.mlp.up_proj.weight").floats() == plain)
        #expect(throws: CheckpointError.self) {
            try tensors {
                rename(&$0) { String($0.dropFirst("model.".count)) }
                zeros(&$0, "layers.0.self_attn.q_proj.bias")
            }
        }
    }

    @Test(arguments: ["language_model.model.", "model.model.", "model.language_model."])
    func otherPrefixesAreNamed(prefix: String) throws {
        let error = #expect(throws: CheckpointError.self) {
            try tensors { rename(&$0) { prefix + $0.dropFirst("model.".count) } }
        }
        let text = "\(String(describing: error))"
        #expect(text.contains("tensor model.embed_tokens.weight is missing"), "\(text)")
        #expect(text.contains("\(prefix)embed_tokens.weight is"), "\(text)")
    }

    @Test func theNearestNameIsShown() throws {
        let error = #expect(throws: CheckpointError.self) {
            try tensors { rename(&$0) { $0 == "model.norm.weight" ? "model.norms.weight" : $0 } }
        }
        let text = "\(String(describing: error))"
        #expect(text.contains("model.norm.weight is missing"), "\(text)")
        #expect(text.contains("nearest name is model.norms.weight"), "\(text)")
    }

    /// Checks that the single file is read if the folder also has shards, as in transformers. A warning must name the
    /// index of the shards.
    @Test func aFileBesideShardsIsNamed() throws {
        let path = try folder.copy(TestData.tiny + "/model", "both")
        try folder.copy(
            TestData.tiny + "/model-single/model.safetensors", "both/model.safetensors")
        let files = try CheckpointFiles(directory: path)
        #expect(files.files.map(\.name) == ["model.safetensors"])
        let warnings = try CheckpointTensors(files, config).warnings
        #expect(warnings.count == 1 && warnings[0].contains("model.safetensors.index.json"))
    }
}
