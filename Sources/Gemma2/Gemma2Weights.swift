// The model's weights on a device.

import Tensors

/// The weights of one block on a device. Matrices are (outputs, inputs). A norm vector holds 1 + w, the factor of
/// Gemma's RMSNorm, where w is the weight in the checkpoint.
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

    init(layer: Int, _ load: WeightLoader<B>) throws {
        let block = "model.layers.\(layer)."
        inputNorm = try load.norm(block + "input_layernorm.weight")
        qProj = try load.matrix(block + "self_attn.q_proj.weight")
        kProj = try load.matrix(block + "self_attn.k_proj.weight")
        vProj = try load.matrix(block + "self_attn.v_proj.weight")
        oProj = try load.matrix(block + "self_attn.o_proj.weight")
        postAttentionNorm = try load.norm(block + "post_attention_layernorm.weight")
        preFeedForwardNorm = try load.norm(block + "pre_feedforward_layernorm.weight")
        gateProj = try load.matrix(block + "mlp.gate_proj.weight")
        upProj = try load.matrix(block + "mlp.up_proj.weight")
        downProj = try load.matrix(block + "mlp.down_proj.weight")
        postFeedForwardNorm = try load.norm(block + "post_feedforward_layernorm.weight")
    }
}

/// The weights of the whole model on a device.
struct Gemma2Weights<B: Backend> {
    let embedding: B.Weights  // (dVocab, dModel)
    let blocks: [BlockWeights<B>]
    let finalNorm: B.Vector  // (dModel)
    let unembedding: B.Weights  // (dVocab, dModel)

    /// Checks that all tensors exist and have the shapes that `config` implies, then passes each tensor to the
    /// backend.
    init(_ files: CheckpointFiles, _ config: Gemma2Config, on backend: B) throws {
        let load = WeightLoader(tensors: try CheckpointTensors(files, config), backend: backend)
        let embedding = try load.matrix("model.embed_tokens.weight", isTable: true)
        self.embedding = embedding
        blocks = try (0..<config.nLayers).map { try BlockWeights(layer: $0, load) }
        finalNorm = try load.norm("model.norm.weight")
        unembedding =
            config.hasTiedEmbeddings ? embedding : try load.matrix("lm_head.weight")
    }
}

/// Finds tensors by name and passes them to the backend.
struct WeightLoader<B: Backend> {
    let tensors: CheckpointTensors
    let backend: B

    func matrix(_ name: String, isTable: Bool = false) throws -> B.Weights {
        backend.weights(
            try tensors.tensor(name), layout: .outputsByInputs, isTable: isTable)
    }

    /// Returns the vector 1 + w of an RMSNorm with the stored weights w (see `BlockWeights`).
    func norm(_ name: String) throws -> B.Vector {
        try backend.vector(tensors.tensor(name), adding: 1)
    }
}
