// `config.json` of a Gemma-2 checkpoint, as older and newer versions of transformers spell it.
// Keys and defaults: transformers, models/gemma2/configuration_gemma2.py.

import ByteJSON
import Files
import Hooks

/// Why a checkpoint was refused. Each names the file and, where there is one, the key or tensor.
public enum CheckpointError: Error, Equatable, CustomStringConvertible {
    /// The configuration is not JSON or lacks what is needed.
    case badConfig(path: String, reason: String)
    /// Neither a single file nor an index of shards is in the folder.
    case noWeights(directory: String)
    /// The folder has something else; the reason says what, and what to do.
    case otherContents(directory: String, reason: String)
    /// The index of shards cannot be used.
    case badIndex(path: String, reason: String)
    /// A file that the index of shards names is not there.
    case missingShard(path: String, shard: String)
    /// The configuration says that the weights are quantised.
    case quantised(path: String, key: String, value: String)
    /// A tensor's shape is not what the configuration asks for.
    case wrongShape(path: String, tensor: String, shape: [Int], expected: [Int])
    /// A tensor that the model is computed from is not there; `reason` says what is.
    case missingTensor(path: String, tensor: String, reason: String)
    /// A tensor that would change what is computed; `reason` says how, and what to do.
    case refusedTensor(path: String, tensor: String, reason: String)
    /// The tokenizer has tokens that the embedding has no row for.
    case tooFewRows(path: String, rows: Int, tokenizer: String, lastID: Int)

    /// What is wrong, where, expected and got, and the next step.
    public var description: String {
        switch self {
        case .badConfig(let path, let reason):
            "\(path): \(reason); give the config.json of a Gemma-2 checkpoint"
        case .noWeights(let directory):
            "\(directory): has neither model.safetensors nor model.safetensors.index.json; give a checkpoint's folder in Hugging Face layout"
        case .otherContents(let directory, let reason): "\(directory): \(reason)"
        case .badIndex(let path, let reason):
            "\(path): \(reason); download the checkpoint's index again"
        case .missingShard(let path, let shard):
            "\(shard) is not there, but \(path) names it; download that file too"
        case .wrongShape(let path, let tensor, let shape, let expected):
            "\(path): tensor \(tensor) has shape \(shape), expected \(expected) from config.json; the two belong to different checkpoints\(shape.dropFirst() == expected.dropFirst() && tensor.hasSuffix("embed_tokens.weight") ? ", or tokens were added and vocab_size was not made \(shape[0])" : "")"
        case .quantised(let path, let key, let value):
            "\(path): \(key) is \(value): a quantised checkpoint, which this program does not read; give the one in float32, bfloat16 or float16 that it was made from"
        case .missingTensor(let path, let tensor, let reason):
            "\(path): tensor \(tensor) is not there; \(reason)"
        case .refusedTensor(let path, let tensor, let reason):
            "\(path): tensor \(tensor) \(reason)"
        case .tooFewRows(let path, let rows, let tokenizer, let lastID):
            "\(path): vocab_size is \(rows), but \(tokenizer) has ids up to \(lastID): the embedding has no row for \(lastID >= rows + 1 ? "ids from \(rows) on" : "id \(rows)"); give the tokenizer that the model was trained with, or resize the model's embedding to \(lastID + 1) and save it again"
        }
    }
}

/// The sizes and constants of a Gemma-2 model. Names are TransformerLens', upstream keys in parentheses.
public struct Gemma2Config: Equatable, Sendable {
    /// Width of the residual stream (`hidden_size`).
    public var dModel: Int
    /// Width of the MLP (`intermediate_size`).
    public var dMLP: Int
    /// Number of blocks (`num_hidden_layers`).
    public var nLayers: Int
    /// Query heads (`num_attention_heads`).
    public var nHeads: Int
    /// Key and value heads (`num_key_value_heads`).
    public var nKVHeads: Int
    /// Width of a head (`head_dim`).
    public var dHead: Int
    /// Size of the vocabulary (`vocab_size`).
    public var dVocab: Int
    /// Longest sequence the model was made for (`max_position_embeddings`).
    public var nContext: Int
    /// Added to the mean square in norms (`rms_norm_eps`).
    public var epsilon: Float
    /// Base of the rotary angles (`rope_theta`).
    public var rotaryBase: Float
    /// Scores are divided by its square root (`query_pre_attn_scalar`).
    public var queryPreAttentionScalar: Float
    /// Soft-cap of attention scores (`attn_logit_softcapping`); nil for none.
    public var attentionSoftCap: Float?
    /// Soft-cap of logits (`final_logit_softcapping`); nil for none.
    public var finalSoftCap: Float?
    /// Keys that a local layer sees (`sliding_window`).
    public var slidingWindow: Int
    /// Whether each layer is local, i.e. sees only the window (`layer_types`).
    public var isLocal: [Bool]
    /// Whether the embedding is the unembedding too (`tie_word_embeddings`).
    public var hasTiedEmbeddings: Bool
    /// The id of `<bos>` (`bos_token_id`), which the tokenizer decides; nil where the file does not say.
    public var bosTokenID: Int?
    /// What the file says that changes nothing here, and that somebody may have meant to. Each names the file.
    public var warnings: [String]

    /// Reads `path`. Throws `FileError`, `UnexpectedFileError` or `CheckpointError`.
    public init(path: String) throws {
        let object = try MappedFile(path: path).jsonObject {
            CheckpointError.badConfig(path: path, reason: $0)
        }
        try self.init(ConfigReader(path: path, object: object))
    }

    private init(_ r: ConfigReader) throws {
        // Before anything else: what else such a file says belongs to another kind of checkpoint.
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

    /// Width of a site's tap, hence `d_in` of its SAEs.
    public func width(of site: Site) -> Int {
        site == .att ? nHeads * dHead : dModel
    }
}
