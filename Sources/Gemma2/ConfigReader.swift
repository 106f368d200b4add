// Reads the keys of a Gemma-2 model's `config.json`. It knows the keys that transformers 4.42 to 5 write.
// Sources in transformers: models/gemma2/configuration_gemma2.py, configuration_utils.py, modeling_rope_utils.py.

import ByteJSON

/// Reads the values of one JSON object of the configuration, and checks their types.
struct ConfigReader {
    let path: String
    let object: JSONObject
    /// The keys that lead to this object, each followed by a dot, such as `rope_parameters.`. Empty at the top level.
    var place = ""

    func bad(_ key: String, _ reason: String) -> CheckpointError {
        .badConfig(path: path, reason: "\(place)\(key) \(reason)")
    }

    private func bad(_ key: String, expected: String) -> CheckpointError {
        bad(key, "is \(object[key]?.excerpt ?? "missing"), expected \(expected)")
    }

    func check(_ keys: KnownNames, _ unknown: inout UnknownNames) throws {
        do {
            try keys.check(object, place: place, unknown: &unknown)
        } catch {
            throw CheckpointError.badConfig(path: path, reason: error.reason)
        }
    }

    func require(_ key: String, _ expected: String) throws {
        guard object[key]?.string == expected else { throw bad(key, expected: "\"\(expected)\"") }
    }

    /// Returns the whole number at `key`, or `fallback` if the key is missing. The default range ends at the largest
    /// 32-bit integer, because BLAS takes sizes as 32-bit integers.
    func size(
        _ key: String, default fallback: Int? = nil, in range: ClosedRange<Int> = 1...Int(Int32.max)
    ) throws -> Int {
        if object[key] == nil, let fallback { return fallback }
        guard let size = object[key]?.integer, range.contains(size) else {
            throw bad(
                key, expected: "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return size
    }

    func positive(_ key: String, default fallback: Float) throws -> Float {
        guard let value = object[key] else { return fallback }
        // The value is used as float32, so it is checked as float32: 1e-60 becomes 0, and 1e60 becomes infinity.
        guard let number = value.number.map({ Float($0) }), number > 0, number.isFinite else {
            throw bad(key, expected: "a positive number that fits float32")
        }
        return number
    }

    func bool(_ key: String, default fallback: Bool) throws -> Bool {
        guard let value = object[key] else { return fallback }
        guard let bool = value.bool else { throw bad(key, expected: "true or false") }
        return bool
    }

    func softCap(_ key: String, default fallback: Float) throws -> Float? {
        object[key] == .null ? nil : try positive(key, default: fallback)
    }

    /// Returns `bos_token_id`; nil if it is null or missing.
    func bosTokenID() throws -> Int? {
        guard let value = object["bos_token_id"], value != .null else { return nil }
        guard let id = value.integer else {
            throw bad("bos_token_id", expected: "a whole number or null")
        }
        return id
    }

    /// Returns `sliding_window`. The first Gemma-2 configurations also have `sliding_window_size`. The two values
    /// must be equal.
    func window() throws -> Int {
        let window = try size("sliding_window", default: 4096)
        guard object["sliding_window_size"] != nil else { return window }
        guard try size("sliding_window_size") == window else {
            throw bad("sliding_window_size", expected: "\(window), the value of sliding_window")
        }
        return window
    }

    /// Returns `rope_theta`. transformers 5 stores it in the object `rope_parameters`, for which `rope_scaling` is
    /// another name. If the key occurs more than once, all values must be equal.
    func rotaryBase(_ unknown: inout UnknownNames) throws -> Float {
        var found: (key: String, base: Float)?
        func add(_ reader: ConfigReader) throws {
            guard reader.object["rope_theta"] != nil else { return }
            let base = try reader.positive("rope_theta", default: 0)
            if let found, found.base != base {
                throw reader.bad("rope_theta", expected: "\(found.base), the value of \(found.key)")
            }
            found = (reader.place + "rope_theta", base)
        }
        try add(self)
        for key in ["rope_scaling", "rope_parameters"] {
            guard let value = object[key], value != .null else { continue }
            guard let parameters = value.object else {
                throw bad(key, expected: "null or an object")
            }
            let nested = ConfigReader(path: path, object: parameters, place: key + ".")
            try nested.check(ConfigReader.rotaryKeys, &unknown)
            try add(nested)
        }
        return found?.base ?? 10_000
    }

    /// Returns for each of `count` layers whether its attention is local. Without `layer_types`, local and global
    /// layers alternate, and layer 0 is local.
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
                    "has the entry \(type.excerpt), expected sliding_attention or full_attention")
            }
        }
        guard let isLocal, isLocal.count == count else {
            throw bad("layer_types", expected: "a list of \(count) entries, one for each layer")
        }
        return isLocal
    }

    /// Returns a warning if the checkpoint was saved from a Gemma-2 class with more than the language model, such as
    /// a classifier. Throws if the class belongs to another model.
    func classWarnings() throws -> [String] {
        guard let value = object["architectures"], value != .null else { return [] }
        guard let names = value.array?.map(\.string), !names.contains(nil) else {
            throw bad("architectures", expected: "a list of names")
        }
        return try names.compactMap { $0 }.compactMap { name in
            if ["Gemma2ForCausalLM", "Gemma2Model"].contains(name) { return nil }
            guard name.contains("Gemma2") else {
                throw bad(
                    "architectures",
                    expected: "[\"Gemma2ForCausalLM\"], because model_type is \"gemma2\"")
            }
            return
                "\(path): architectures is \(value.excerpt); this program computes only the language model of \(name), not its other parts"
        }
    }

    /// Returns a warning if `hidden_act` names another activation function. Some files have this key beside or
    /// instead of `hidden_activation`, but only `hidden_activation` is used.
    func activationWarnings() throws -> [String] {
        guard let value = object["hidden_act"], value != .null, value != "gelu_pytorch_tanh" else {
            return []
        }
        return [
            "\(path): hidden_act is \(value.excerpt); this program ignores this key and, like transformers, uses hidden_activation, which is \(object["hidden_activation"]?.excerpt ?? "\"gelu_pytorch_tanh\" by default")"
        ]
    }
}

extension ConfigReader {
    /// Top-level keys that say how weights were quantised, including those of MLX and of older files of GPTQ and AWQ.
    /// If one of them is not null, the file is refused before any other check.
    static let quantisationKeys = [
        "quantization_config", "compression_config", "quantization", "quant_method",
        "quantization_method",
    ]

    /// The keys at the top level of the file.
    static let keys = KnownNames(
        used: [
            "architectures", "attn_logit_softcapping", "bos_token_id", "final_logit_softcapping",
            "head_dim", "hidden_act", "hidden_activation", "hidden_size", "intermediate_size",
            "layer_types", "max_position_embeddings", "model_type", "num_attention_heads",
            "num_hidden_layers", "num_key_value_heads", "query_pre_attn_scalar", "rms_norm_eps",
            "rope_parameters", "rope_scaling", "rope_theta", "sliding_window",
            "sliding_window_size", "tie_word_embeddings", "vocab_size",
        ],
        harmless: [
            // The checkpoint's origin and element type. They change nothing: tensors are read in the type in which
            // they are stored.
            "_commit_hash", "_name_or_path", "dtype", "name_or_path", "torch_dtype",
            "transformers.js_config", "transformers_version", "unsloth_fixed", "unsloth_version",
            // Options for running, training and generating.
            "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
            "_experts_implementation", "attention_dropout", "attn_implementation",
            "cache_implementation", "chunk_size_feed_forward", "gradient_checkpointing",
            "initializer_range", "neftune_noise_alpha", "output_attentions",
            "output_hidden_states", "pretraining_tp", "return_dict", "tf_legacy_loss",
            "torchscript", "use_bfloat16", "use_cache",
            // Options of generate(). Of these, only bos_token_id is used.
            "bad_words_ids", "begin_suppress_tokens", "decoder_start_token_id", "diversity_penalty",
            "do_sample", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
            "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
            "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
            "num_beam_groups", "num_beams", "num_return_sequences", "output_scores",
            "pad_token_id", "remove_invalid_values", "repetition_penalty",
            "return_dict_in_generate", "sep_token_id", "suppress_tokens", "temperature", "top_k",
            "top_p", "typical_p",
            // Keys for other tasks than language modelling.
            "finetuning_task", "id2label", "is_decoder", "label2id", "num_labels", "prefix",
            "problem_type", "task_specific_params", "tie_encoder_decoder", "tokenizer_class",
        ] + quantisationKeys,
        changing: [
            "add_cross_attention": [.bool(false), .null],
            "attention_bias": [.bool(false), .null],
            "cross_attention_hidden_size": [.null],
            "is_encoder_decoder": [.bool(false), .null],
            "mlp_bias": [.bool(false), .null],
            "partial_rotary_factor": [1, .null],
            "pruned_heads": [.object([:]), .null],
            "text_config": [.null],
            "use_bidirectional_attention": [.bool(false), .null],
            "vision_config": [.null],
        ])

    /// The keys of `rope_parameters` and `rope_scaling`.
    static let rotaryKeys = KnownNames(
        used: ["rope_theta"],
        changing: [
            "attention_factor": [.null], "beta_fast": [.null], "beta_slow": [.null],
            "factor": [1, .null], "full_attention": [], "high_freq_factor": [.null],
            "long_factor": [.null], "low_freq_factor": [.null], "mscale": [.null],
            "mscale_all_dim": [.null], "original_max_position_embeddings": [.null],
            "partial_rotary_factor": [1, .null], "rope_type": ["default"], "short_factor": [.null],
            "sliding_attention": [], "truncate": [.null], "type": ["default"],
        ])
}
