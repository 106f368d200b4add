// The one table of the checkpoint's tensor names and shapes.
// Names: transformers, models/gemma2/modeling_gemma2.py.

import ArrayFiles
import Tensors

/// A block's weights on a device. Matrices are (outputs, inputs); norms already have Gemma's 1 added.
struct BlockWeights<B: Backend> {
    let inputNorm: B.Vector  // (dModel)
    let qProj: B.Weights  // (nHeads · dHead, dModel)
    let kProj: B.Weights  // (nKVHeads · dHead, dModel)
    let vProj: B.Weights  // (nKVHeads · dHead, dModel)
    let oProj: B.Weights  // (dModel, nHeads · dHead)
    let postAttentionNorm: B.Vector  // (dModel)
    let preFeedForwardNorm: B.Vector  // (dModel)
    let gateProj: B.Weights  // (dMLP, dModel)
    let upProj: B.Weights  // (dMLP, dModel)
    let downProj: B.Weights  // (dModel, dMLP)
    let postFeedForwardNorm: B.Vector  // (dModel)

    init(layer: Int, _ config: Gemma2Config, _ load: WeightLoader<B>) throws {
        let block = "model.layers.\(layer)."
        let (d, mlp) = (config.dModel, config.dMLP)
        let (queries, keys) = (config.nHeads * config.dHead, config.nKVHeads * config.dHead)
        inputNorm = try load.norm(block + "input_layernorm.weight", d)
        qProj = try load.matrix(block + "self_attn.q_proj.weight", queries, d)
        kProj = try load.matrix(block + "self_attn.k_proj.weight", keys, d)
        vProj = try load.matrix(block + "self_attn.v_proj.weight", keys, d)
        oProj = try load.matrix(block + "self_attn.o_proj.weight", d, queries)
        postAttentionNorm = try load.norm(block + "post_attention_layernorm.weight", d)
        preFeedForwardNorm = try load.norm(block + "pre_feedforward_layernorm.weight", d)
        gateProj = try load.matrix(block + "mlp.gate_proj.weight", mlp, d)
        upProj = try load.matrix(block + "mlp.up_proj.weight", mlp, d)
        downProj = try load.matrix(block + "mlp.down_proj.weight", d, mlp)
        postFeedForwardNorm = try load.norm(block + "post_feedforward_layernorm.weight", d)
    }
}

/// The model's weights on a device.
struct Gemma2Weights<B: Backend> {
    let embedding: B.Weights  // (dVocab, dModel)
    let blocks: [BlockWeights<B>]
    let finalNorm: B.Vector  // (dModel)
    let unembedding: B.Weights  // (dVocab, dModel)

    /// Checks every tensor's presence and shape against `config`, then hands it to the backend.
    init(_ files: CheckpointFiles, _ config: Gemma2Config, on backend: B) throws {
        let load = WeightLoader(files: files, backend: backend)
        let embedding = try load.matrix(
            "model.embed_tokens.weight", config.dVocab, config.dModel, isTable: true)
        self.embedding = embedding
        blocks = try (0..<config.nLayers).map { try BlockWeights(layer: $0, config, load) }
        finalNorm = try load.norm("model.norm.weight", config.dModel)
        unembedding =
            config.hasTiedEmbeddings
            ? embedding : try load.matrix("lm_head.weight", config.dVocab, config.dModel)
    }
}

/// Finds tensors by name and shape and makes them resident.
struct WeightLoader<B: Backend> {
    let files: CheckpointFiles
    let backend: B

    func matrix(
        _ name: String, _ outputs: Int, _ inputs: Int, isTable: Bool = false
    ) throws -> B.Weights {
        backend.weights(
            try files.tensor(name, shape: [outputs, inputs]), layout: .outputsByInputs,
            isTable: isTable)
    }

    /// Gemma's norms multiply by 1 + w.
    func norm(_ name: String, _ width: Int) throws -> B.Vector {
        try backend.vector(files.tensor(name, shape: [width]), adding: 1)
    }
}
