// Tests which keys of config.json are read, which are ignored, and which are refused.

import ByteJSON
import TestSupport
import Testing

@testable import Gemma2

struct ConfigTests {
    /// Reads the fixture's configuration after `change`.
    private func config(_ change: (inout JSONObject) -> Void) throws -> Gemma2Config {
        let folder = try TemporaryFolder()
        return try Gemma2Config(
            path: folder.write(
                changedJSON(TestData.tiny + "/model/config.json", change), "config.json"))
    }

    private func config(setting values: JSONObject) throws -> Gemma2Config {
        try config { for (key, value) in values.members { $0[key] = value } }
    }

    /// Arguments: values that transformers 4.42 to 5 write and that do not change the model.
    @Test(
        arguments: [
            ["dtype": "bfloat16", "torch_dtype": "float16"], ["eos_token_id": [1, 107]],
            ["_attn_implementation": "eager", "use_cache": .bool(false)],
            ["rope_scaling": .null, "partial_rotary_factor": .number(1)],
            ["rope_scaling": .object(["type": "default"])],
            ["rope_parameters": .object(["rope_theta": 10000, "rope_type": "default"])],
            ["rope_parameters": .object(["rope_theta": .number(10000)])],
            [
                "layer_types": .null, "pruned_heads": .object([:]),
                "attention_dropout": .number(0.1),
            ],
            ["use_bidirectional_attention": .null, "quantization_config": .null],
            ["architectures": ["Gemma2Model"]], ["architectures": .null],
            ["sliding_window_size": 16], ["id2label": .object(["0": "LABEL_0"])],
            ["tie_word_embeddings": .bool(true), "transformers_version": "5.0.0"],
        ] as [JSONObject])
    func theSameModel(values: JSONObject) throws {
        let plain = try config { _ in }
        let other = try config(setting: values)
        #expect(other.warnings == [] && plain.warnings == [])
        #expect(other == plain)
    }

    @Test(
        arguments: [
            (["attention_bias": .bool(true)], "attention_bias is true, expected false or null"),
            (["mlp_bias": .bool(true)], "mlp_bias is true"),
            (["use_bidirectional_attention": .bool(true)], "use_bidirectional_attention is true"),
            (
                ["rope_scaling": .object(["type": "linear", "factor": 2])],
                "rope_scaling.type is \"linear\""
            ),
            (["rope_scaling": .object(["factor": 2])], "rope_scaling.factor is 2"),
            (["rope_scaling": "linear"], "rope_scaling is \"linear\""),
            (
                ["rope_parameters": .object(["rope_type": "yarn"])],
                "rope_parameters.rope_type is \"yarn\""
            ),
            (
                ["rope_parameters": .object(["full_attention": .object(["rope_theta": 1])])],
                "rope_parameters.full_attention"
            ),
            (
                ["rope_parameters": .object(["rope_theta": 500])],
                "rope_parameters.rope_theta is 500, expected 10000.0, the value of rope_theta"
            ),
            (["rope_theta": .null], "rope_theta is null"),
            (["partial_rotary_factor": .number(0.5)], "partial_rotary_factor is 0.5"),
            (["pruned_heads": .object(["1": [0]])], "pruned_heads is {\"1\":[0]}"),
            (["sliding_window_size": 4096], "sliding_window_size is 4096, expected 16"),
            (["sliding_window": .null], "sliding_window is null"),
            (
                ["hidden_activation": .null],
                "hidden_activation is null, expected \"gelu_pytorch_tanh\""
            ),
            (["tie_word_embeddings": .null], "tie_word_embeddings is null, expected true or false"),
            (["tie_word_embeddings": "no"], "tie_word_embeddings is \"no\""),
            (["hidden_size": "64"], "hidden_size is \"64\", expected a whole number"),
            (["query_pre_attn_scalar": .null], "query_pre_attn_scalar is null"),
            (["model_type": "gemma3_text"], "model_type is \"gemma3_text\", expected \"gemma2\""),
            (["model_type": .null], "model_type is null"),
            (["architectures": ["LlamaForCausalLM"]], "architectures is [\"LlamaForCausalLM\"]"),
            (["text_config": .object([:])], "text_config is {}"),
            (["is_encoder_decoder": .bool(true)], "is_encoder_decoder is true"),
            (["bos_token_id": [2]], "bos_token_id is [2], expected a whole number or null"),
            (["bos_token_id": "<bos>"], "bos_token_id is \"<bos>\""),
        ] as [(JSONObject, String)])
    func anotherModelIsRefused(values: JSONObject, reason: String) throws {
        let error = #expect(throws: CheckpointError.self) { try config(setting: values) }
        let text = "\(String(describing: error))"
        #expect(text.contains("config.json: \(reason)"), "\(text)")
    }

    /// Checks transformers' default for a missing `head_dim`.
    @Test func headsAre256WideWithoutAWord() throws {
        #expect(try config { $0["head_dim"] = nil }.dHead == 256)
    }

    /// Checks that quantisation is refused before any other check, because quantised checkpoints may lack keys.
    @Test(arguments: ["quantization_config", "compression_config", "quantization"])
    func quantisedCheckpointsAreNamed(key: String) throws {
        let error = #expect(throws: CheckpointError.self) {
            try config { $0 = [key: .object(["quant_method": "gptq", "bits": 4])] }
        }
        let text = "\(String(describing: error))"
        #expect(
            text.contains(
                "\(key) is {\"quant_method\":\"gptq\",\"bits\":4}: a quantised checkpoint"))
    }

    @Test(
        arguments: [
            (["hidden_act": "relu"], ["hidden_act is \"relu\"", "hidden_activation"]),
            (
                ["architectures": ["Gemma2ForSequenceClassification"]],
                ["architectures", "Gemma2ForSequenceClassification"]
            ),
            (["zeta": 1, "alpha": .null], ["not known", "zeta, alpha"]),
            (
                ["rope_parameters": .object(["rope_theta": 10000, "spin": 2])],
                ["not known", "rope_parameters.spin"]
            ),
            (["auto_map": .object(["AutoModelForCausalLM": "m.M"])], ["not known", "auto_map"]),
        ] as [(JSONObject, [String])])
    func whatChangesNothingIsNamedOnce(values: JSONObject, mentions: [String]) throws {
        let warnings = try config(setting: values).warnings
        #expect(warnings.count == 1)
        for mention in mentions { #expect(warnings[0].contains(mention), "\(warnings)") }
        #expect(warnings[0].contains("config.json: "))
    }
}
