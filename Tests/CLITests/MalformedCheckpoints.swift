// Test cases with damaged checkpoints and configurations.

import Foundation
import TestSupport

extension MalformedInputTests {
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
            "empty safetensors", exits: 65, mentioning: ["model.safetensors: is empty", "again"]
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
            "unknown dtype", exits: 65,
            mentioning: ["tensor model.norm.weight", "FOO", "expected F32", "save it again"]
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
            mentioning: ["tensor model.norm.weight is missing", "model.norms.weight", "check"]
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
            try $0.changeShards("model.safetensors.index.json") {
                try Job.replace("model-00001-of-00003.safetensors", by: "../x.safetensors", in: &$0)
            }
        },
        MalformedInput(
            "missing shard", exits: 65,
            mentioning: [
                "model-00002-of-00003.safetensors is missing, but ", "index.json names it",
                "download",
            ]
        ) {
            try $0.changeShards("model.safetensors.index.json") { _ in }
            try FileManager.default.removeItem(
                atPath: $0.model + "/model-00002-of-00003.safetensors")
        },
        MalformedInput(
            "tensor that the index puts into another shard", exits: 65,
            mentioning: [
                "index.json: says that model.norm.weight is in model-00001-of-00003.safetensors",
                "does not have it", "again",
            ]
        ) {
            try $0.changeShards("model.safetensors.index.json") {
                try Job.replace(
                    "\"model.norm.weight\": \"model-00003",
                    by: "\"model.norm.weight\": \"model-00001",
                    in: &$0)
            }
        },
        MalformedInput(
            "index that names a pickle", exits: 65,
            mentioning: [
                "index.json: names pytorch_model-00003-of-00003.bin", "(pickle)",
                "download the safetensors files",
            ]
        ) {
            let name = "pytorch_model-00003-of-00003.bin"
            try $0.changeShards("model.safetensors.index.json") {
                let text = String(decoding: $0, as: UTF8.self)
                $0 = Array(
                    text.replacingOccurrences(of: "model-00003-of-00003.safetensors", with: name)
                        .utf8)
            }
            try TestData.write([0x80, 2, 0x7D, 0x71, 0, 0x2E], to: "\($0.model)/\(name)")
        },
        MalformedInput(
            "index whose weight_map is a list", exits: 65,
            mentioning: ["index.json: weight_map is [], expected an object", "again"]
        ) {
            try $0.changeShards("model.safetensors.index.json") {
                $0 = Array("{\"weight_map\": []}".utf8)
            }
        },
        MalformedInput(
            "tensor that the index does not have", exits: 65,
            mentioning: [
                "index.json: tensor model.norm.weight is missing", "model.norn", "check",
            ]
        ) {
            try $0.changeShards("model.safetensors.index.json") {
                try Job.replace("model.norm.weight", by: "model.norn.weight", in: &$0)
            }
        },
        MalformedInput(
            "NaN in a norm's weights", exits: 65,
            mentioning: ["document 0", "line ", "NaN or infinity in blocks.0.attn.hook_z", "check"]
        ) {
            try $0.setFirstElement(
                of: "model.layers.0.input_layernorm.weight", toBFloat16: [0xC0, 0x7F])
        },
        MalformedInput(
            "infinity in the final norm", exits: 65,
            mentioning: ["document 0", "NaN or infinity in the logits", "check"]
        ) {
            try $0.setFirstElement(of: "model.norm.weight", toBFloat16: [0x80, 0x7F])
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
            "empty config.json", exits: 65, mentioning: ["config.json: is empty", "again"]
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
            mentioning: ["head_dim is -32, expected a whole number", "give"]
        ) {
            try $0.changeModelText("config.json", "\"head_dim\": 32", "\"head_dim\": -32")
        },
        MalformedInput(
            "config.json with a cap beyond float32", exits: 65,
            mentioning: [
                "final_logit_softcapping is 1e+300, expected a positive number that fits float32",
                "give",
            ]
        ) {
            try $0.changeModelText(
                "config.json", "\"final_logit_softcapping\": 25.0",
                "\"final_logit_softcapping\": 1e300")
        },
        MalformedInput(
            "config.json with a scalar that float32 rounds to 0", exits: 65,
            mentioning: [
                "query_pre_attn_scalar is 1e-60, expected a positive number that fits float32",
                "give",
            ]
        ) {
            try $0.changeModelText(
                "config.json", "\"query_pre_attn_scalar\": 40", "\"query_pre_attn_scalar\": 1e-60")
        },
        MalformedInput(
            "a pipe called config.json", exits: 65,
            mentioning: ["config.json", "give a regular file"]
        ) {
            try $0.copyModel()
            try FileManager.default.removeItem(atPath: $0.model + "/config.json")
            mkfifo($0.model + "/config.json", 0o666)
        },
        MalformedInput(
            "config.json with two billion layers", exits: 65,
            mentioning: ["num_hidden_layers is 2147483647, expected a whole number from 1 to 1024"]
        ) {
            try $0.changeModelText(
                "config.json", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 2147483647")
        },
        MalformedInput(
            "config.json of a model with one position", exits: 65,
            mentioning: ["max_position_embeddings is 1, expected a whole number from 2", "give"]
        ) {
            try $0.changeModelText(
                "config.json", "\"max_position_embeddings\": 512",
                "\"max_position_embeddings\": 1")
        },
        MalformedInput(
            "config.json with a layer too few in layer_types", exits: 65,
            mentioning: ["layer_types", "4 entries", "give"]
        ) {
            try $0.copyModel()
            try $0.removeLayerType()
        },
        MalformedInput(
            "a quantised checkpoint", exits: 65,
            mentioning: [
                "config.json", "quantization_config", "\"gptq\"", "give the checkpoint in float32",
            ]
        ) {
            try $0.changeModelText(
                "config.json", "\"use_cache\": true",
                "\"quantization_config\": {\"quant_method\": \"gptq\"}")
        },
        MalformedInput(
            "a bias", exits: 65,
            mentioning: ["model.safetensors", "model.layers.0.mlp.up_proj.bias is a bias", "check"]
        ) {
            try $0.addToHeader("model.layers.0.mlp.up_proj.bias")
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
}

extension Job {
    /// Removes one entry of `layer_types`.
    fileprivate mutating func removeLayerType() throws {
        let path = model + "/config.json"
        let text = try TestData.text(path)
        let range = text.range(of: "\"sliding_attention\",")!
        try TestData.write(text.replacingCharacters(in: range, with: "").utf8, to: path)
    }
}
