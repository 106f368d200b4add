// `config.json` of a Gemma-2 checkpoint, as older and newer versions of transformers spell it.
// Keys and defaults: transformers, models/gemma2/configuration_gemma2.py.

import ArrayFiles
import ByteJSON

/// Why a checkpoint was refused. Each names the file and, where there is one, the key or tensor.
public enum CheckpointError: Error, Equatable, CustomStringConvertible {
    /// The configuration is not JSON or lacks what is needed.
    case badConfig(path: String, reason: String)
    /// Neither a single file nor an index of shards is in the folder.
    case noWeights(directory: String)
    /// The index of shards cannot be used.
    case badIndex(path: String, reason: String)
    /// A tensor's shape is not what the configuration asks for.
    case wrongShape(path: String, tensor: String, shape: [Int], expected: [Int])

    /// What is wrong, where, expected and got, and the next step.
    public var description: String {
        switch self {
        case .badConfig(let path, let reason):
            "\(path): \(reason); give the config.json of a Gemma-2 checkpoint"
        case .noWeights(let directory):
            "\(directory): has neither model.safetensors nor model.safetensors.index.json; give a checkpoint's folder in Hugging Face layout"
        case .badIndex(let path, let reason):
            "\(path): \(reason); download the checkpoint's index again"
        case .wrongShape(let path, let tensor, let shape, let expected):
            "\(path): tensor \(tensor) has shape \(shape), expected \(expected) from config.json; the two belong to different checkpoints"
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

    /// Reads `path`. Throws `FileError` or `CheckpointError`.
    public init(path: String) throws {
        let file = try MappedFile(path: path)
        let value: JSONValue
        do {
            value = try file.parsedJSON()
        } catch {
            throw CheckpointError.badConfig(path: path, reason: "not JSON: \(error)")
        }
        guard let object = value.object else {
            throw CheckpointError.badConfig(path: path, reason: "not a JSON object")
        }
        try self.init(ConfigReader(path: path, object: object))
    }

    private init(_ r: ConfigReader) throws {
        try r.require("model_type", "gemma2")
        // The key the model uses is hidden_activation; older files have hidden_act beside it.
        if r.object["hidden_activation"] != nil {
            try r.require("hidden_activation", "gelu_pytorch_tanh")
        }
        for key in ["attention_bias", "use_bidirectional_attention"] {
            guard r.object[key]?.bool != true else { throw r.bad(key, "is true, expected false") }
        }
        if let scaling = r.object["rope_scaling"], scaling != .null {
            throw r.bad("rope_scaling", "is set, expected null (plain rotary embedding)")
        }
        dModel = try r.size("hidden_size")
        dMLP = try r.size("intermediate_size")
        nLayers = try r.size("num_hidden_layers", in: 1...1024)
        nHeads = try r.size("num_attention_heads")
        nKVHeads = try r.size("num_key_value_heads")
        dHead = try r.size("head_dim")
        dVocab = try r.size("vocab_size")
        nContext = try r.size("max_position_embeddings", default: 8192, in: 2...1 << 24)
        epsilon = try r.positive("rms_norm_eps", default: 1e-6)
        queryPreAttentionScalar = try r.positive("query_pre_attn_scalar", default: 256)
        attentionSoftCap = try r.softCap("attn_logit_softcapping", default: 50)
        finalSoftCap = try r.softCap("final_logit_softcapping", default: 30)
        slidingWindow = try r.size("sliding_window", default: 4096)
        hasTiedEmbeddings = r.object["tie_word_embeddings"]?.bool ?? true
        rotaryBase = try r.rotaryBase()
        isLocal = try r.localLayers(count: nLayers)
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

/// Typed access to the configuration's keys.
private struct ConfigReader {
    let path: String
    let object: JSONObject

    func bad(_ key: String, _ reason: String) -> CheckpointError {
        .badConfig(path: path, reason: "\(key) \(reason)")
    }

    func require(_ key: String, _ expected: String) throws {
        guard let value = object[key]?.string else {
            throw bad(key, "is missing, expected \"\(expected)\"")
        }
        guard value == expected else { throw bad(key, "is \"\(value)\", expected \"\(expected)\"") }
    }

    /// A whole number. Sizes beyond 2³¹ cannot be BLAS operands.
    func size(
        _ key: String, default fallback: Int? = nil, in range: ClosedRange<Int> = 1...Int(Int32.max)
    ) throws -> Int {
        guard let value = object[key] else {
            guard let fallback else { throw bad(key, "is missing, expected a whole number") }
            return fallback
        }
        guard let size = value.integer, range.contains(size) else {
            throw bad(
                key, "is not a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return size
    }

    func positive(_ key: String, default fallback: Float) throws -> Float {
        guard let value = object[key] else { return fallback }
        // As float32, in which it is used: 1e-60 would be 0 and 1e60 infinity.
        guard let number = value.number.map({ Float($0) }), number > 0, number.isFinite else {
            throw bad(key, "is not a positive number that fits float32")
        }
        return number
    }

    func softCap(_ key: String, default fallback: Float) throws -> Float? {
        object[key] == .null ? nil : try positive(key, default: fallback)
    }

    /// `rope_theta`, or since transformers 5 `rope_parameters.rope_theta`.
    func rotaryBase() throws -> Float {
        guard let parameters = object["rope_parameters"]?.object else {
            return try positive("rope_theta", default: 10_000)
        }
        let nested = ConfigReader(path: path, object: parameters)
        if parameters["rope_type"] != nil { try nested.require("rope_type", "default") }
        return try nested.positive("rope_theta", default: 10_000)
    }

    func localLayers(count: Int) throws -> [Bool] {
        guard let types = object["layer_types"], types != .null else {
            return (0..<count).map { $0 % 2 == 0 }
        }
        let isLocal = try types.array?.map { type in
            switch type.string {
            case "sliding_attention": return true
            case "full_attention": return false
            default:
                throw bad(
                    "layer_types",
                    "has an entry that is neither sliding_attention nor full_attention")
            }
        }
        guard let isLocal, isLocal.count == count else {
            throw bad("layer_types", "is not a list of \(count) entries, one a layer")
        }
        return isLocal
    }
}
