// Fuzz targets for the configuration files of checkpoints and SAEs.

import ArrayFiles
import Files
import Gemma2
import Hooks
import SparseAutoencoders
import TestSupport

extension FuzzTarget {
    static let models = [config, index, saeConfig]

    private static let config = FuzzTarget(
        "config",
        dictionary: jsonWords + [
            "rope_parameters", "rope_scaling", "rope_theta", "layer_types", "sliding_attention",
            "full_attention", "hidden_activation", "attention_bias", "attn_logit_softcapping",
            "query_pre_attn_scalar", "head_dim", "2147483647",
        ]
    ) {
        try ["model", "model-single"].map {
            try TestData.bytes("\(TestData.tiny)/\($0)/config.json")
        }
    } body: { input in
        let config = try Gemma2Config(path: Workspace.file(input))
        check(config.isLocal.count == config.nLayers, "layers without a kind")
        check(config.nHeads % config.nKVHeads == 0 && config.dHead % 2 == 0, "invalid heads")
        check(
            [config.epsilon, config.rotaryBase, config.queryPreAttentionScalar].allSatisfy {
                $0 > 0 && $0.isFinite
            }, "a constant that is not positive")
        check(Site.allCases.allSatisfy { config.width(of: $0) > 0 }, "a width that is not positive")
    }

    private static let index = FuzzTarget(
        "index", dictionary: jsonWords + ["weight_map", ".safetensors", "../", "\\u0000", "model-"]
    ) {
        [try TestData.bytes("\(TestData.tiny)/model/model.safetensors.index.json")]
    } body: { input in
        for name in try CheckpointFiles.weightNames(index: Workspace.file(input)) {
            check(
                !name.isEmpty && !name.utf8.contains { $0 == 0 || $0 == UInt8(ascii: "/") },
                "a file outside the folder: \(name)")
        }
    }

    private static let saeConfig = FuzzTarget(
        "sae-config",
        dictionary: jsonWords + [
            "architecture", "jumprelu", "apply_b_dec_to_input", "normalize_activations", "none",
            "d_in", "64",
            "hook_name", "metadata", "blocks.0.hook_resid_post",
        ]
    ) {
        try ["res/layer_0", "res/layer_2"].map { layer in
            let folder = "\(TestData.tiny)/sae-lens/\(layer)/width_16k"
            let name = try directoryContents(folder)[0]
            return try TestData.bytes("\(folder)/\(name)/cfg.json")
        }
    } body: { input in
        _ = saeFolder
        _ = Workspace.file(input, "sae/cfg.json")
        let sae = try SAEParameters(
            directory: saeFolder, dIn: 64, hookName: "blocks.0.hook_resid_post")
        check(sae.wEnc.shape == [64, 2], "wrong shape of W_enc")
    }

    /// A folder with the weights file of an SAE. Each input becomes the file cfg.json in it.
    private static let saeFolder: String = {
        let folder = Workspace.folder + "/sae"
        try! makeDirectories(folder)
        var builder = SafetensorsBuilder()
        builder.add("W_enc", [64, 2], [Float](repeating: 1, count: 128))
        builder.add("b_enc", [2], [1, 1])
        builder.add("W_dec", [2, 64], [Float](repeating: 1, count: 128))
        builder.add("b_dec", [64], [Float](repeating: 1, count: 64))
        builder.add("threshold", [2], [1, 1])
        _ = Workspace.file(builder.bytes(), "sae/sae_weights.safetensors")
        return folder
    }()
}
