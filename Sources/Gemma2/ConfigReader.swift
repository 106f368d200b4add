// The keys of a Gemma-2 model's `config.json`: which are read, and how. Those of transformers 4.42 to 5 are known.
// Keys: transformers, models/gemma2/configuration_gemma2.py, configuration_utils.py and modeling_rope_utils.py.

import ByteJSON

/// Typed access to the configuration's keys.
struct ConfigReader {
    let path: String
    let object: JSONObject
    /// The keys above this object, each with a dot behind it.
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

    /// A whole number. Sizes beyond 2³¹ cannot be BLAS operands.
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
        // As float32, in which it is used: 1e-60 would be 0 and 1e60 infinity.
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

    /// `bos_token_id`; nil where it is null or missing.
    func bosTokenID() throws -> Int? {
        guard let value = object["bos_token_id"], value != .null else { return nil }
        guard let id = value.integer else {
            throw bad("bos_token_id", expected: "a whole number or null")
        }
        return id
    }

    /// `sliding_window`. Configurations of the first days have `sliding_window_size` beside it.
    func window() throws -> Int {
        let window = try size("sliding_window", default: 4096)
        guard object["sliding_window_size"] != nil else { return window }
        guard try size("sliding_window_size") == window else {
            throw bad("sliding_window_size", expected: "\(window) as sliding_window")
        }
        return window
    }

    /// `rope_theta`, since transformers 5 in `rope_parameters`, which may be called `rope_scaling`. Where it stands more
    /// than once, all must be equal.
    func rotaryBase(_ unknown: inout UnknownNames) throws -> Float {
        var found: (key: String, base: Float)?
        func add(_ reader: ConfigReader) throws {
            guard reader.object["rope_theta"] != nil else { return }
            let base = try reader.positive("rope_theta", default: 0)
            if let found, found.base != base {
                throw reader.bad("rope_theta", expected: "\(found.base) as \(found.key)")
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
            throw bad("layer_types", expected: "a list of \(count) entries, one a layer")
        }
        return isLocal
    }

    /// What is to be said of the class that the checkpoint was saved from. Throws where it is another model's.
    func classWarnings() throws -> [String] {
        guard let value = object["architectures"], value != .null else { return [] }
        guard let names = value.array?.map(\.string), !names.contains(nil) else {
            throw bad("architectures", expected: "a list of names")
        }
        return try names.compactMap { $0 }.compactMap { name in
            if ["Gemma2ForCausalLM", "Gemma2Model"].contains(name) { return nil }
            guard name.contains("Gemma2") else {
                throw bad("architectures", expected: "[\"Gemma2ForCausalLM\"], as model_type is")
            }
            return
                "\(path): architectures is \(value.excerpt): what \(name) has besides the language model is not computed"
        }
    }

    /// Some files have `hidden_act` beside `hidden_activation`, or alone.
    func activationWarnings() throws -> [String] {
        guard let value = object["hidden_act"], value != .null, value != "gelu_pytorch_tanh" else {
            return []
        }
        return [
            "\(path): hidden_act is \(value.excerpt), but like transformers this program goes by hidden_activation, which is \(object["hidden_activation"]?.excerpt ?? "\"gelu_pytorch_tanh\" where it is missing")"
        ]
    }
}

extension ConfigReader {
    /// Keys that say how weights were quantised. Refused before anything else, where they say anything. MLX and older
    /// GPTQ and AWQ files have theirs at the top.
    static let quantisationKeys = [
        "quantization_config", "compression_config", "quantization", "quant_method",
        "quantization_method",
    ]

    /// The keys of the file's top.
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
            // How and from what the checkpoint was saved. Numbers are read in the tensors' own types.
            "_commit_hash", "_name_or_path", "dtype", "name_or_path", "torch_dtype",
            "transformers.js_config", "transformers_version", "unsloth_fixed", "unsloth_version",
            // How it is run, trained or asked for text.
            "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
            "_experts_implementation", "attention_dropout", "attn_implementation",
            "cache_implementation", "chunk_size_feed_forward", "gradient_checkpointing",
            "initializer_range", "neftune_noise_alpha", "output_attentions",
            "output_hidden_states", "pretraining_tp", "return_dict", "tf_legacy_loss",
            "torchscript", "use_bfloat16", "use_cache",
            // What generate() would take; of its keys bos_token_id alone is looked at.
            "bad_words_ids", "begin_suppress_tokens", "decoder_start_token_id", "diversity_penalty",
            "do_sample", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
            "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
            "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
            "num_beam_groups", "num_beams", "num_return_sequences", "output_scores",
            "pad_token_id", "remove_invalid_values", "repetition_penalty",
            "return_dict_in_generate", "sep_token_id", "suppress_tokens", "temperature", "top_k",
            "top_p", "typical_p",
            // What a task needs that is not this one.
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
