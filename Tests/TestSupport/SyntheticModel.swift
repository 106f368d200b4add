// Makes random checkpoints and SAEs of any shape.

import Foundation

/// A random Gemma-2 model with a JumpReLU SAE for each site of each layer.
package struct SyntheticModel {
    /// The width of the residual stream (`d_model`).
    package var dModel = 16
    /// The width of the MLP's hidden layer (`d_mlp`).
    package var dMLP = 24
    /// The number of blocks.
    package var nLayers = 2
    /// The number of query heads. The number of key-value heads is half of it.
    package var nHeads = 2
    /// The width of a head.
    package var dHead = 8
    /// The number of tokens in the vocabulary.
    package var dVocab = 640
    /// The number of features of each SAE.
    package var dSAE = 48
    /// The seed of all random numbers.
    package var seed: UInt64 = 1

    /// Creates a model with tiny matrices and the vocabulary size of the fixture.
    package init() {}

    /// Writes the checkpoint to `model` (without a tokenizer) and the SAEs to `sae`. Both are subfolders of `folder`.
    package func write(to folder: TemporaryFolder) throws {
        var random = SeededGenerator(seed)
        var checkpoint = SafetensorsBuilder()
        func matrix(_ name: String, _ rows: Int, _ columns: Int, _ scale: Float) {
            checkpoint.add(name, [rows, columns], random.floats(rows * columns, scale: scale))
        }
        func vector(_ name: String) {
            checkpoint.add(name, [dModel], random.floats(dModel, scale: 0.3))
        }
        matrix("model.embed_tokens.weight", dVocab, dModel, 0.2)
        for layer in 0..<nLayers {
            let block = "model.layers.\(layer)."
            matrix(block + "self_attn.q_proj.weight", nHeads * dHead, dModel, 0.5)
            matrix(block + "self_attn.k_proj.weight", nHeads / 2 * dHead, dModel, 0.5)
            matrix(block + "self_attn.v_proj.weight", nHeads / 2 * dHead, dModel, 0.5)
            matrix(block + "self_attn.o_proj.weight", dModel, nHeads * dHead, 0.5)
            matrix(block + "mlp.gate_proj.weight", dMLP, dModel, 0.5)
            matrix(block + "mlp.up_proj.weight", dMLP, dModel, 0.5)
            matrix(block + "mlp.down_proj.weight", dModel, dMLP, 0.5)
            for norm in [
                "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ] {
                vector("\(block)\(norm).weight")
            }
        }
        vector("model.norm.weight")
        try folder.write(checkpoint.bytes(), "model/model.safetensors")
        try folder.write(config.utf8, "model/config.json")
        for layer in 0..<nLayers {
            for (site, dIn) in [("res", dModel), ("mlp", dModel), ("att", nHeads * dHead)] {
                var sae = SafetensorsBuilder()
                sae.add("W_enc", [dIn, dSAE], random.floats(dIn * dSAE))
                sae.add("W_dec", [dSAE, dIn], random.floats(dSAE * dIn, scale: 0.3))
                sae.add("b_enc", [dSAE], random.floats(dSAE))
                sae.add("b_dec", [dIn], random.floats(dIn))
                sae.add("threshold", [dSAE], random.floats(dSAE).map { 1.5 + abs($0) })
                let path = "sae/\(site)/layer_\(layer)/width_16k/average_l0_10/"
                try folder.write(sae.bytes(), path + "sae_weights.safetensors")
                try folder.write(
                    #"{"architecture":"jumprelu","apply_b_dec_to_input":false}"#.utf8,
                    path + "cfg.json")
            }
        }
    }

    private var config: String {
        """
        {"model_type": "gemma2", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": \(dModel),
         "intermediate_size": \(dMLP), "num_hidden_layers": \(nLayers), "head_dim": \(dHead),
         "num_attention_heads": \(nHeads), "num_key_value_heads": \(nHeads / 2),
         "vocab_size": \(dVocab), "query_pre_attn_scalar": \(dHead), "sliding_window": 64}
        """
    }
}
