// The configuration of a Gemma-2 model: `config.json`, as older and newer versions of transformers write it.
// Source of keys and defaults: transformers, models/gemma2/configuration_gemma2.py.

import ByteJSON
import Files
import Hooks

/// Errors for a checkpoint that cannot be used. Each message names the file, and the key or tensor that is wrong.
package enum CheckpointError: Error, Equatable, CustomStringConvertible {
    /// The configuration is not JSON, lacks a required key, or has a value that is not supported.
    case badConfig(path: String, reason: String)
    /// The folder has neither `model.safetensors` nor an index of shards.
    case noWeights(directory: String)
    /// The folder or the index has no weights that the program can read. `reason` says what is there instead, and the
    /// next step.
    case otherContents(directory: String, reason: String)
    /// The index of shards is invalid, or does not match the shards.
    case badIndex(path: String, reason: String)
    /// A file that the index of shards names is missing.
    case missingShard(path: String, shard: String)
    /// The configuration says that the weights are quantised.
    case quantised(path: String, key: String, value: String)
    /// The shape of a tensor is not the shape that the configuration implies.
    case wrongShape(path: String, tensor: String, shape: [Int], expected: [Int])
    /// A tensor that the model needs is missing. `reason` says which tensor exists instead, and the likely cause.
    case missingTensor(path: String, tensor: String, reason: String)
    /// The checkpoint has a tensor that would change the results. `reason` says why, and the next step.
    case refusedTensor(path: String, tensor: String, reason: String)
    /// The tokenizer has ids up to `lastID`, but the embedding has only `rows` rows.
    case tooFewRows(path: String, rows: Int, tokenizer: String, lastID: Int)

    /// The message: the file, what was found and expected, and the next step.
    package var description: String {
        switch self {
        case .badConfig(let path, let reason):
            "\(path): \(reason); give the folder of a Gemma-2 checkpoint (--model_path, or --model), or replace this file by the config.json of the Gemma-2 model"
        case .noWeights(let directory):
            "\(directory): has neither model.safetensors nor model.safetensors.index.json; give the folder of a checkpoint in Hugging Face's layout"
        case .otherContents(let directory, let reason): "\(directory): \(reason)"
        case .badIndex(let path, let reason):
            "\(path): \(reason); download the checkpoint's index again"
        case .missingShard(let path, let shard):
            "\(shard) is missing, but \(path) names it; download the missing file"
        case .wrongShape(let path, let tensor, let shape, let expected):
            "\(path): tensor \(tensor) has shape \(shape), expected \(expected) from config.json: weights and config.json are from different checkpoints\(shape.dropFirst() == expected.dropFirst() && tensor.hasSuffix("embed_tokens.weight") ? ", or tokens were added and vocab_size was not set to \(shape[0])" : ""); give files of the same checkpoint"
        case .quantised(let path, let key, let value):
            "\(path): \(key) is \(value): a quantised checkpoint, which this program does not read; give the checkpoint in float32, bfloat16 or float16 from which it was made"
        case .missingTensor(let path, let tensor, let reason):
            "\(path): tensor \(tensor) is missing; \(reason)"
        case .refusedTensor(let path, let tensor, let reason):
            "\(path): tensor \(tensor) \(reason)"
        case .tooFewRows(let path, let rows, let tokenizer, let lastID):
            "\(path): vocab_size is \(rows), but \(tokenizer) has ids up to \(lastID): the embedding has no row for \(lastID >= rows + 1 ? "ids from \(rows) on" : "id \(rows)"); give the tokenizer that the model was trained with, or resize the model's embedding to \(lastID + 1) rows and save the model again"
        }
    }
}

/// The sizes and constants of a Gemma-2 model. Properties have TransformerLens' names. The keys of `config.json` are
/// in parentheses.
package struct Gemma2Config: Equatable, Sendable {
    /// Width of the residual stream (`hidden_size`).
    package var dModel: Int
    /// Width of the MLP (`intermediate_size`).
    package var dMLP: Int
    /// Number of blocks (`num_hidden_layers`).
    package var nLayers: Int
    /// Number of query heads (`num_attention_heads`).
    package var nHeads: Int
    /// Number of key and value heads (`num_key_value_heads`).
    package var nKVHeads: Int
    /// Width of a head (`head_dim`).
    package var dHead: Int
    /// Size of the vocabulary (`vocab_size`).
    package var dVocab: Int
    /// Longest sequence that the model was made for, in tokens (`max_position_embeddings`).
    package var nContext: Int
    /// Constant that RMSNorm adds to the mean square (`rms_norm_eps`).
    package var epsilon: Float
    /// Base of the frequencies of the rotary position embedding (`rope_theta`).
    package var rotaryBase: Float
    /// Attention scores are divided by the square root of this number (`query_pre_attn_scalar`).
    package var queryPreAttentionScalar: Float
    /// Soft-cap of attention scores (`attn_logit_softcapping`); nil if scores are not capped.
    package var attentionSoftCap: Float?
    /// Soft-cap of the final logits (`final_logit_softcapping`); nil if logits are not capped.
    package var finalSoftCap: Float?
    /// Number of keys that a query of a local layer sees, including its own position (`sliding_window`).
    package var slidingWindow: Int
    /// For each layer, whether its attention is local (limited to the sliding window) or global (`layer_types`).
    package var isLocal: [Bool]
    /// Whether the unembedding is the embedding matrix (`tie_word_embeddings`).
    package var hasTiedEmbeddings: Bool
    /// The id of `<bos>` (`bos_token_id`); nil if it is null or missing. The program uses the tokenizer's id instead.
    package var bosTokenID: Int?
    /// Warnings about keys that have no effect in this program, although the user may expect one. Each warning names
    /// the file.
    package var warnings: [String]

    /// Reads the configuration at `path`. Throws `FileError`, `UnexpectedFileError` or `CheckpointError`.
    package init(path: String) throws {
        let object = try MappedFile(path: path).jsonObject {
            CheckpointError.badConfig(path: path, reason: $0)
        }
        try self.init(ConfigReader(path: path, object: object))
    }

    private init(_ r: ConfigReader) throws {
        // This check comes first. The file of a quantised checkpoint may lack other keys, and an error about a
        // missing key would hide the cause.
        for key in ConfigReader.quantisationKeys {
            guard let value = r.object[key], value != .null else { continue }
            throw CheckpointError.quantised(path: r.path, key: key, value: value.excerpt)
        }
        try r.require("model_type", "gemma2")
        if r.object["hidden_activation"] != nil {
            try r.require("hidden_activation", "gelu_pytorch_tanh")
        }
        var unknown = UnknownNames()
        try r.check(ConfigReader.keys, &unknown)
        dModel = try r.size("hidden_size")
        dMLP = try r.size("intermediate_size")
        nLayers = try r.size("num_hidden_layers", in: 1...1024)
        nHeads = try r.size("num_attention_heads")
        nKVHeads = try r.size("num_key_value_heads")
        dHead = try r.size("head_dim", default: 256)
        dVocab = try r.size("vocab_size")
        nContext = try r.size("max_position_embeddings", default: 8192, in: 2...1 << 24)
        epsilon = try r.positive("rms_norm_eps", default: 1e-6)
        queryPreAttentionScalar = try r.positive("query_pre_attn_scalar", default: 256)
        attentionSoftCap = try r.softCap("attn_logit_softcapping", default: 50)
        finalSoftCap = try r.softCap("final_logit_softcapping", default: 30)
        slidingWindow = try r.window()
        hasTiedEmbeddings = try r.bool("tie_word_embeddings", default: true)
        rotaryBase = try r.rotaryBase(&unknown)
        isLocal = try r.localLayers(count: nLayers)
        bosTokenID = try r.bosTokenID()
        warnings =
            try r.classWarnings() + r.activationWarnings()
            + [unknown.warning(r.path, "keys", limit: 40)].compactMap { $0 }
        guard nHeads % nKVHeads == 0 else {
            throw r.bad(
                "num_attention_heads", "is \(nHeads), not a multiple of \(nKVHeads) key heads")
        }
        guard dHead % 2 == 0 else {
            throw r.bad("head_dim", "is \(dHead), expected an even number")
        }
    }

    /// Returns the number of columns of the activations at `site`, which is the `d_in` of its SAEs.
    package func width(of site: Site) -> Int {
        site == .att ? nHeads * dHead : dModel
    }
}
