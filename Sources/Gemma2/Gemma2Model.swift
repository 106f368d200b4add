// Gemma-2 (Gemma Team 2024, arXiv 2408.00118), as transformers' Gemma2ForCausalLM computes it with eager
// attention. Shapes are written (rows, columns); a row is a token of the packed batch.

import Hooks
import Tensors

/// A Gemma-2 model on a device.
public struct Gemma2Model<B: Backend> {
    /// Receives a tapped activation, (tokens, width), valid during the call.
    public typealias Tap = (HookPoint, B.Matrix) throws -> Void

    /// Sizes and constants.
    public let config: Gemma2Config
    private let backend: B
    private let weights: Gemma2Weights<B>
    private let rotary: RotaryTable

    /// Loads a checkpoint for sequences of at most `maximumLength` tokens. Throws where a tensor is missing
    /// or of another shape than `config` asks for.
    public init(
        _ files: CheckpointFiles, config: Gemma2Config, maximumLength: Int, on backend: B
    ) throws {
        self.config = config
        self.backend = backend
        weights = try Gemma2Weights(files, config, on: backend)
        rotary = .gemma2(config, length: maximumLength)
    }

    /// Bytes of activations that a token takes at most at one time, with some room: the residual stream and the
    /// norms, the heads and their sum, the MLP's two inner matrices and their product; twice for operands of products.
    public var bytesPerToken: Int {
        let heads = config.nHeads * config.dHead
        let keys = config.nKVHeads * config.dHead
        return 4 * (8 * config.dModel + 4 * heads + 2 * keys + 4 * config.dMLP)
    }

    /// Runs the batch through all blocks, giving each block's taps to `tap`, and returns what is predicted.
    public func forward(_ batch: PackedBatch, tap: Tap) throws -> Deferred<TokenPredictions> {
        // The factor stays in float32: 48 for 2b, 59.8665 for 9b.
        let x = try backend.measure(.embedding) {
            try backend.embed(
                batch.tokens, table: weights.embedding, scale: Float(config.dModel).squareRoot())
        }
        let positions = batch.positions
        for layer in 0..<config.nLayers {
            try forward(x, layer: layer, batch: batch, positions: positions, tap: tap)
        }
        return try backend.measure(.predictions) {
            let normed = try backend.rmsNorm(x, weights.finalNorm, epsilon: config.epsilon)
            return try backend.predictions(
                normed, unembedding: weights.unembedding, softCap: config.finalSoftCap,
                nextTokens: batch.nextTokens)
        }
    }

    /// One block: grouped-query attention, then a GeGLU MLP, each between two RMS norms.
    /// `x` is the residual stream, (tokens, dModel), updated in place.
    private func forward(
        _ x: B.Matrix, layer: Int, batch: PackedBatch, positions: [Int32], tap: Tap
    ) throws {
        let w = weights.blocks[layer]
        let z = try backend.measure(.attention) {
            try attention(x, w, layer: layer, batch: batch, positions: positions)
        }
        try tap(HookPoint(layer: layer, site: .att), z)  // blocks.L.attn.hook_z
        let attnOut = try backend.measure(.attention) {
            try norm(backend.matmul(z, w.oProj), w.postAttentionNorm)  // (tokens, dModel)
        }
        try backend.add(attnOut, to: x)

        let mlpOut = try backend.measure(.mlp) {
            try norm(mlp(x, w), w.postFeedForwardNorm)  // (tokens, dModel)
        }
        try tap(HookPoint(layer: layer, site: .mlp), mlpOut)  // blocks.L.hook_mlp_out
        try backend.add(mlpOut, to: x)
        try tap(HookPoint(layer: layer, site: .res), x)  // blocks.L.hook_resid_post
    }

    /// The heads' weighted values, concatenated: (tokens, nHeads · dHead).
    private func attention(
        _ x: B.Matrix, _ w: BlockWeights<B>, layer: Int, batch: PackedBatch, positions: [Int32]
    ) throws -> B.Matrix {
        let n = try norm(x, w.inputNorm)  // (tokens, dModel)
        let q = try backend.matmul(n, w.qProj)  // (tokens, nHeads · dHead)
        let k = try backend.matmul(n, w.kProj)  // (tokens, nKVHeads · dHead)
        let v = try backend.matmul(n, w.vProj)  // (tokens, nKVHeads · dHead)
        try backend.rotate(q, by: rotary, at: positions)
        try backend.rotate(k, by: rotary, at: positions)
        let p = AttentionParameters(
            heads: config.nHeads, keyValueHeads: config.nKVHeads, headWidth: config.dHead,
            scale: 1 / config.queryPreAttentionScalar.squareRoot(),
            softCap: config.attentionSoftCap,
            window: config.isLocal[layer] ? config.slidingWindow : nil)
        return try backend.attention(queries: q, keys: k, values: v, in: batch, p)
    }

    /// down(gelu(gate(n)) · up(n)): (tokens, dModel).
    private func mlp(_ x: B.Matrix, _ w: BlockWeights<B>) throws -> B.Matrix {
        let n = try norm(x, w.preFeedForwardNorm)  // (tokens, dModel)
        let gate = try backend.matmul(n, w.gateProj)  // (tokens, dMLP)
        let up = try backend.matmul(n, w.upProj)  // (tokens, dMLP)
        return try backend.matmul(backend.geglu(gate: gate, up: up), w.downProj)
    }

    private func norm(_ x: B.Matrix, _ weight: B.Vector) throws -> B.Matrix {
        try backend.rmsNorm(x, weight, epsilon: config.epsilon)
    }
}
