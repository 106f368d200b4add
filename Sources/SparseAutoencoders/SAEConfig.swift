// Reads SAELens' `cfg.json`, and checks that it describes a JumpReLU SAE that this program computes correctly. Before
// version 6 of SAELens, all keys are at the top level. Since version 6, keys about the model are in `metadata`.
// Source of keys and defaults: sae_lens, loading/pretrained_sae_loaders.py (handle_pre_6_0_config), saes/sae.py,
// saes/jumprelu_sae.py.

import ByteJSON
import Files
import Hooks

/// The configuration of one SAE.
struct SAEConfig {
    private let path: String
    private let top: JSONObject
    private let metadata: JSONObject

    /// Reads the file at `path`. Throws `FileError`, `UnexpectedFileError` or `SAEError`.
    init(path: String) throws {
        let object = try MappedFile(path: path).jsonObject {
            SAEError.unsupported(path: path, reason: $0)
        }
        (self.path, top) = (path, object)
        switch object["metadata"] {
        case nil, .null: metadata = JSONObject()
        case .object(let nested): metadata = nested
        case let other?:
            throw SAEError.unsupported(
                path: path, reason: "metadata is \(other.excerpt), expected an object")
        }
    }

    /// Throws `SAEError` if the configuration asks for another computation, or names another hook, layer or width.
    /// Returns warnings about unknown keys and, if `label` is given, about an SAE that was made for another model.
    func check(dIn: Int, hookName: String, label: String?) throws -> [String] {
        try require("architecture", ["jumprelu"], missing: "which SAELens takes for \"standard\"")
        try require("activation_fn", ["relu", .null], missing: nil)
        try require("activation_fn_str", ["relu", .null], missing: nil)
        try require(
            "apply_b_dec_to_input", [.bool(false)], missing: "which SAELens takes for true")
        var unknown = UnknownNames()
        do throws(KeyProblem) {
            try SAEConfig.keys.check(top, unknown: &unknown)
            try SAEConfig.metadataKeys.check(metadata, place: "metadata.", unknown: &unknown)
            for (object, place) in [(top, ""), (metadata, "metadata.")] {
                let key = "model_from_pretrained_kwargs"
                guard let value = object[key], value != .null else { continue }
                guard let loading = value.object else {
                    throw KeyProblem(key: place + key, found: value, expected: [.null])
                }
                try SAEConfig.loadingKeys.check(
                    loading, place: "\(place)\(key).", unknown: &unknown)
            }
        } catch {
            throw SAEError.unsupported(path: path, reason: error.reason)
        }
        try checkPlace(hookName)
        let isHead = hookName.hasSuffix("hook_z")
        try require(
            "reshape_activations", isHead ? ["none", "hook_z", .null] : ["none", .null],
            missing: nil)
        try checkSize("d_in", dIn, "the width of \(hookName)")
        return modelWarnings(label)
            + [unknown.warning(path, "keys", limit: 40)].compactMap { $0 }
    }

    /// Throws if `d_sae` in the file is not `dSAE`, the number of features of the encoder.
    func checkFeatures(_ dSAE: Int) throws { try checkSize("d_sae", dSAE, "as in W_enc") }

    private func checkSize(_ key: String, _ size: Int, _ meaning: String) throws {
        guard let value = top[key], value != .null, value != .integer(size) else { return }
        throw SAEError.elsewhere(
            path: path, reason: "\(key) is \(value.excerpt), expected \(size), \(meaning)")
    }

    /// Throws if the value of `key` is not in `values`. A missing key is an error only if `missing` is given, a text
    /// that says which default SAELens takes.
    private func require(_ key: String, _ values: [JSONValue], missing: String?) throws {
        guard let value = top[key] else {
            guard let missing else { return }
            throw SAEError.unsupported(
                path: path,
                reason: "\(key) is missing, \(missing), expected \(values[0].excerpt)")
        }
        guard values.contains(value) else {
            throw SAEError.unsupported(
                path: path, reason: "\(key) is \(value.excerpt), expected \(values[0].excerpt)")
        }
    }

    /// Throws if a key for the SAE's hook or layer does not agree with `hookName`. Checks the keys of all SAELens
    /// versions.
    private func checkPlace(_ hookName: String) throws {
        for (object, place, key) in [
            (top, "", "hook_name"), (top, "", "hook_point"), (metadata, "metadata.", "hook_name"),
            (metadata, "metadata.", "hook_point"),
        ] {
            guard let value = object[key], value != .null else { continue }
            guard value == .string(hookName) else {
                throw SAEError.elsewhere(
                    path: path,
                    reason: "\(place)\(key) is \(value.excerpt), expected \(hookName)")
            }
        }
        let layer = hookName.split(separator: ".").dropFirst().first.flatMap { Int($0) }
        for (object, place, key) in [
            (top, "", "hook_layer"), (top, "", "hook_point_layer"),
            (metadata, "metadata.", "hook_layer"),
        ] {
            guard let layer, let value = object[key], value != .null else { continue }
            guard value == .integer(layer) else {
                throw SAEError.elsewhere(
                    path: path, reason: "\(place)\(key) is \(value.excerpt), expected \(layer)")
            }
        }
    }

    /// Returns a warning if the SAE was made for another model than `label`. An SAE of the base model of the same
    /// size causes no warning, because such SAEs are also used for models that were fine-tuned from the base model.
    private func modelWarnings(_ label: String?) -> [String] {
        guard let label else { return [] }
        func short(_ name: some StringProtocol) -> String {
            name.split(separator: "/").last.map { $0.lowercased() } ?? ""
        }
        let expected = [short(label), "gemma-2-\(ScopeSize(label: label).rawValue)"]
        for (object, place) in [(top, ""), (metadata, "metadata.")] {
            guard let value = object["model_name"], value != .null,
                !expected.contains(short(value.string ?? ""))
            else { continue }
            return [
                "\(path): \(place)model_name is \(value.excerpt): this SAE was made for another model than \(label); its features may not be meaningful for this model"
            ]
        }
        return []
    }

    // MARK: Keys

    /// Keys about the model and the training data of the SAE. They are at the top level or in `metadata`.
    private static let modelKeys = (
        used: [
            "hook_layer", "hook_name", "hook_point", "model_from_pretrained_kwargs", "model_name",
        ],
        harmless: [
            "context_size", "dataset_path", "dataset_trust_remote_code",
            "exclude_special_tokens", "hf_hook_name", "is_dataset_tokenized", "model_class_name",
            "neuronpedia_id", "prepend_bos", "sae_lens_training_version", "sae_lens_version",
            "seqpos_slice", "sae_lens_git_hash", "streaming", "use_cached_activations",
            "cached_activations_path", "release", "sae_id", "disable_concat_sequences",
            "sequence_separator_token",
        ],
        changing: [
            "d_out": [.null], "hf_hook_name_out": [.null], "hook_head_index": [.null],
            "hook_head_index_out": [.null], "hook_layer_out": [.null], "hook_name_out": [.null],
            "hook_point_head_index": [.null],
        ] as [String: [JSONValue]]
    )

    /// Keys of `model_from_pretrained_kwargs`, which say how TransformerLens loaded the model for the training of the
    /// SAE. If a key in `changing` has another value than those listed, TransformerLens processed the weights. Then
    /// the SAE may have been trained on other activations than this program computes.
    private static let loadingKeys = KnownNames(
        harmless: [
            "cache_dir", "default_padding_side", "default_prepend_bos", "device", "device_map",
            "dtype", "local_files_only", "move_to_device", "n_devices", "token", "torch_dtype",
            "trust_remote_code",
        ],
        changing: [
            "center_unembed": [.bool(false), .null],
            "center_writing_weights": [.bool(false), .null],
            "fold_ln": [.bool(false), .null], "fold_value_biases": [.bool(false), .null],
            "refactor_factored_attn_matrices": [.bool(false), .null],
        ])

    private static let metadataKeys = KnownNames(
        used: modelKeys.used, harmless: modelKeys.harmless, changing: modelKeys.changing)

    private static let keys = KnownNames(
        used: modelKeys.used + [
            "activation_fn", "activation_fn_str", "apply_b_dec_to_input", "architecture", "d_in",
            "d_sae", "hook_point_layer", "metadata", "reshape_activations",
        ],
        harmless: modelKeys.harmless + [
            // These keys change nothing. Tensors are read in their stored element type, on the device of the run.
            "device", "dtype", "expansion_factor", "from_pretrained_path", "name", "seed",
            // The key finetuning_scaling_factor is not needed, because the tensor scaling_factor is checked.
            "finetuning_scaling_factor",
            // Options of the SAE's training.
            "act_store_device", "adam_beta1", "adam_beta2", "autocast", "autocast_lm",
            "b_dec_init_method",
            "checkpoint_path", "compile_llm", "compile_sae", "d_head", "dead_feature_threshold",
            "dead_feature_window", "decoder_heuristic_init", "decoder_heuristic_init_norm",
            "decoder_init_norm", "decoder_orthogonal_init", "ghost_grads",
            "eval_batch_size_prompts", "eval_every_n_wandb_logs", "feature_sampling_method",
            "feature_sampling_window", "feature_reinit_scale", "finetuning_method",
            "finetuning_tokens", "hook_eval", "init_encoder_as_decoder_transpose",
            "jumprelu_bandwidth", "jumprelu_init_threshold", "jumprelu_sparsity_loss_mode",
            "jumprelu_ste_to_input", "jumprelu_tanh_scale", "l0_coefficient", "l0_lambda",
            "l0_warm_up_steps", "l1_coefficient", "l1_warm_up_steps", "llm_batch_size",
            "llm_compilation_mode", "log_activations_store_to_wandb",
            "log_optimizer_state_to_wandb",
            "log_to_wandb", "lp_norm", "lr", "lr_decay_steps", "lr_end", "lr_scheduler_name",
            "lr_warm_up_steps", "mse_loss_normalization", "n_batches_in_buffer", "n_checkpoints",
            "n_eval_batches", "n_restart_cycles", "noise_scale", "normalize_sae_decoder",
            "pre_act_loss_coefficient", "resume", "run_name", "sae_compilation_mode",
            "save_final_checkpoint", "scale_sparsity_penalty_by_decoder_norm", "store_batch_size",
            "store_batch_size_prompts", "target_l0", "tokens_per_buffer", "train_batch_size",
            "train_batch_size_tokens", "training_tokens", "use_ghost_grads", "verbose",
            "wandb_entity", "wandb_id", "wandb_log_frequency", "wandb_project",
        ],
        changing: modelKeys.changing.merging([
            "activation_fn_kwargs": [.null, .object([:])],
            "k": [.null],
            "normalize_activations": ["none", .bool(false), .null],
            "rescale_acts_by_decoder_norm": [.bool(false), .null],
        ]) { $1 })
}
