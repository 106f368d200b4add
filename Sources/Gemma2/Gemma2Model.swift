// The Gemma 2 model (Gemma Team 2024, arXiv 2408.00118), computed as in transformers' Gemma2ForCausalLM with eager
// attention. Shapes are written (rows, columns). A row is a token of the packed batch.

import Hooks
import Tensors

/// A Gemma-2 model on a device.
package struct Gemma2Model<B: Backend> {
    /// A function that receives the activations at a hook, (tokens, width). The matrix is valid only during the call.
    package typealias Tap = (HookPoint, B.Matrix) throws -> Void

    /// The sizes and constants of the model.
    package let config: Gemma2Config
    private let backend: B
    private let weights: Gemma2Weights<B>
    private let rotary: RotaryTable

    /// Registers the weights of a checkpoint with `backend`. After `backend.load`, the model can compute sequences of
    /// at most `maximumLength` tokens. Throws if a tensor is missing or does not have the shape that `config`
    /// implies.
    package init(
        _ files: CheckpointFiles, config: Gemma2Config, maximumLength: Int, on backend: B
    ) throws {
        self.config = config
        self.backend = backend
        weights = try Gemma2Weights(files, config, on: backend)
        rotary = .gemma2(config, length: maximumLength)
    }

    /// An upper bound for the bytes that activations take per token.
    ///
    /// The bound counts all buffers of one block, as if none were released before its end. An element takes 4 bytes
    /// as float32. On CUDA, the 16-bit parts of a matrix that products read take up to 4 bytes more per element
    /// (`CUDAMatrix.parts`).
    package var bytesPerToken: Int {
        let heads = config.nHeads * config.dHead
        let keys = config.nKVHeads * config.dHead
        // The buffers that each term counts. (f): float32. (p): 16-bit parts, which only CUDA has.
        // 8 · dModel = x (f, p) + n of attention (p) + z · oProj (f) + n of mlp (p) + output of downProj (f)
        //              + mlpOut (f, p)
        //   attnOut has no buffer on CUDA. The CPU backend has attnOut but no parts, so it needs only 7 · dModel.
        // 4 · heads  = q (f) + z (f, p) + 1 spare
        // 2 · keys   = k (f) + v (f)
        // 4 · dMLP   = gate (f) + up (f) + output of geglu (CUDA: p, CPU: f) + 1 spare
        return 4 * (8 * config.dModel + 4 * heads + 2 * keys + 4 * config.dMLP)
    }

    /// Runs the forward pass on `batch`, and calls `tap` with the activations at each hook. Returns statistics of the
    /// next-token predictions.
    package func forward(_ batch: PackedBatch, tap: Tap) throws -> Deferred<TokenPredictions> {
        // Embeddings are multiplied by √dModel, which is 48 for 2b and 59.8665 for 9b. This factor is not rounded,
        // even with bfloat16 precision.
        let x = try backend.measure(.embedding) {
            try backend.embed(
                batch.tokens, table: weights.embedding, scale: Float(config.dModel).squareRoot())
        }
        let positions = batch.positions
        for layer in 0..<config.nLayers {
            try forward(x, layer: layer, batch: batch, positions: positions, tap: tap)
        }
        // Final RMSNorm, then logits with soft-cap: finalSoftCap · tanh(normed · unembeddingᵀ / finalSoftCap).
        return try backend.measure(.predictions) {
            let normed = try backend.rmsNorm(x, weights.finalNorm, epsilon: config.epsilon)
            return try backend.predictions(
                normed, unembedding: weights.unembedding, softCap: config.finalSoftCap,
                nextTokens: batch.nextTokens)
        }
    }

    /// Runs one block: grouped-query attention, then an MLP with GeGLU. Attention and MLP each have an RMSNorm on
    /// their input (pre-norm) and on their output (post-norm). The output of the post-norm is added to the residual
    /// stream.
    ///
    /// `x` is the residual stream, (tokens, dModel). It is updated in place.
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

    /// Returns the outputs of all heads, concatenated: (tokens, nHeads · dHead).
    ///
    /// Queries and keys get rotary position embeddings (RoPE). Scores q · kᵀ / √queryPreAttentionScalar are
    /// soft-capped before the softmax. In local layers, a query sees a sliding window; in global layers, all
    /// positions up to its own.
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

    /// Returns down(gelu(gate(n)) · up(n)), (tokens, dModel), where n is the normed input.
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
