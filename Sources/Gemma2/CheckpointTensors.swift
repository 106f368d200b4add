// The table of the tensors that the model is computed from, and rules for all other tensors of a checkpoint.
// Names are from transformers (models/gemma2/modeling_gemma2.py), peft, bitsandbytes, GPTQ, AWQ, compressed-tensors
// and MLX.

import ArrayFiles
import ByteJSON
import Files

extension Gemma2Config {
    /// The tensors that the model is computed from, with their shapes. Matrices are (outputs, inputs).
    var tensors: [(name: String, shape: [Int])] {
        let (queries, keys) = (nHeads * dHead, nKVHeads * dHead)
        var tensors = [("model.embed_tokens.weight", [dVocab, dModel])]
        for layer in 0..<nLayers {
            tensors += [
                ("input_layernorm", [dModel]),
                ("self_attn.q_proj", [queries, dModel]),
                ("self_attn.k_proj", [keys, dModel]),
                ("self_attn.v_proj", [keys, dModel]),
                ("self_attn.o_proj", [dModel, queries]),
                ("post_attention_layernorm", [dModel]),
                ("pre_feedforward_layernorm", [dModel]),
                ("mlp.gate_proj", [dMLP, dModel]),
                ("mlp.up_proj", [dMLP, dModel]),
                ("mlp.down_proj", [dModel, dMLP]),
                ("post_feedforward_layernorm", [dModel]),
            ].map { ("model.layers.\(layer).\($0).weight", $1) }
        }
        tensors.append(("model.norm.weight", [dModel]))
        if !hasTiedEmbeddings { tensors.append(("lm_head.weight", [dVocab, dModel])) }
        return tensors
    }
}

/// The tensors of a checkpoint that the model of one configuration is computed from.
package struct CheckpointTensors {
    /// Warnings about unknown tensors, and about other weights in the folder. Each warning names the file.
    package let warnings: [String]
    private let files: CheckpointFiles
    private let shapes: [String: [Int]]

    /// Checks that all tensors of `config` exist with the right shapes, and that no other tensor would change the
    /// results. Reads only headers, and up to 64 rows of a stored unembedding that `config` ties to the embedding.
    /// Throws `SafetensorsError` or `CheckpointError`.
    package init(_ files: CheckpointFiles, _ config: Gemma2Config) throws {
        self.files = files
        let tensors = config.tensors
        shapes = Dictionary(uniqueKeysWithValues: tensors)
        try CheckpointTensors.refuse(CheckpointTensors.otherForms, in: files)
        for (name, _) in tensors where !files.has(CheckpointTensors.name(name, in: files)) {
            throw CheckpointError.missingTensor(
                path: files.listPath, tensor: name,
                reason: CheckpointTensors.reason(missing: name, files, config))
        }
        let used = Set(tensors.map { ExactString(CheckpointTensors.name($0.name, in: files)) })
        let others = files.names.filter { !used.contains(ExactString($0)) }
        var unknown = UnknownNames()
        for name in others where !CheckpointTensors.isHarmless(name) {
            if let reason = CheckpointTensors.change(by: name, files, config) {
                throw CheckpointError.refusedTensor(
                    path: files.listPath, tensor: name, reason: reason)
            }
            unknown.append(name)
        }
        warnings =
            files.warnings
            + [unknown.warning(files.listPath, "tensors", limit: 5)].compactMap { $0 }
        for (name, _) in tensors { try checkShape(name) }
        if config.hasTiedEmbeddings, files.has(CheckpointTensors.unembedding) {
            try checkTied(config)
        }
    }

    /// Returns the tensor that the table calls `name`. Throws if its shape is not the table's, or if it is not
    /// float32, bfloat16 or float16.
    func tensor(_ name: String) throws -> StoredTensor {
        try checkShape(name)
        return try files.tensor(CheckpointTensors.name(name, in: files))
    }

    /// Checks type and shape of the tensor that the table calls `name`. Reads only the header. Throws the same errors
    /// as `tensor`.
    private func checkShape(_ name: String) throws {
        let found = CheckpointTensors.name(name, in: files)
        let (shape, expected) = (try files.shape(of: found), shapes[name] ?? [])
        guard shape == expected else {
            throw CheckpointError.wrongShape(
                path: try files.file(of: found).file.path, tensor: found, shape: shape,
                expected: expected)
        }
    }

    // MARK: Names

    private static let unembedding = "lm_head.weight"

    /// Returns the name in `files` of the tensor that the table calls `name`. Names lack "model." if the checkpoint
    /// was saved from the model without its head (`Gemma2Model`). When transformers loads such a checkpoint, it adds
    /// "model.".
    private static func name(_ name: String, in files: CheckpointFiles) -> String {
        files.lacksPrefix && name.hasPrefix("model.") ? String(name.dropFirst(6)) : name
    }

    /// Returns the end of the message about the missing `tensor`: which tensor exists instead, and the likely cause.
    private static func reason(
        missing tensor: String, _ files: CheckpointFiles, _ config: Gemma2Config
    ) -> String {
        if tensor == unembedding {
            return
                "config.json asks for it, because tie_word_embeddings is false; set tie_word_embeddings to true if the unembedding of the model is its embedding, otherwise save the checkpoint again with \(unembedding)"
        }
        guard !files.names.isEmpty else {
            return "the checkpoint has no tensors; download it again"
        }
        let end = tensor.hasPrefix("model.") ? tensor.dropFirst(6) : tensor[...]
        if let other = files.names.first(where: { $0.hasSuffix(".\(end)") }),
            files.has(String(other.dropLast(end.count)) + "embed_tokens.weight")
        {
            return
                "\(other) is stored instead: the names begin with '\(other.dropLast(end.count))', expected 'model.'; save only the language model, as a Gemma2ForCausalLM, or rename the tensors"
        }
        let nearest = files.names.max {
            $0.sharedBytes(with: tensor) < $1.sharedBytes(with: tensor)
        }
        return
            "the nearest name is \(nearest ?? ""); check that this is the checkpoint of a Gemma-2 model of \(config.nLayers) layers, and that it is complete"
    }

    // MARK: Other tensors

    /// Parts of tensor names (`marks`), and the reason why a tensor with such a name is refused.
    private typealias Rule = (marks: [String], reason: String)

    /// Marks of tensors that store weights in another form: tensors of adapters that are not merged, and of quantised
    /// weights.
    private static let otherForms: [Rule] = [
        (
            [
                "lora_", ".base_layer.", ".modules_to_save.", "ia3_l", "vera_lambda", "hada_w",
                "lokr_w",
            ],
            "belongs to an adapter that is not merged: merge the adapter into its model (peft: merge_and_unload, then save_pretrained), and give the folder of the merged model"
        ),
        (
            [
                ".absmax", ".nested_absmax", ".quant_map", ".nested_quant_map", ".quant_state.",
                ".SCB", ".weight_format", ".qweight", ".qzeros", ".scales", ".g_idx",
                ".weight_scale", ".weight_scale_inv", ".weight_scale_2", ".input_scale",
                ".output_scale", ".weight_packed", ".weight_shape", ".weight_zero_point",
                ".input_zero_point", ".weight_g_idx", ".weight_global_scale", ".k_scale",
                ".kv_scale", ".scale_weight", ".weight_scales", ".act_scale", ".v_scale",
                ".q_scale", ".zero_point", ".biases", "._data", "._scale", ".codebooks",
                ".codes",
            ],
            "belongs to a quantised checkpoint, which this program does not read; give the checkpoint in float32, bfloat16 or float16 from which it was made"
        ),
    ]

    private static func refuse(_ rules: [Rule], in files: CheckpointFiles) throws {
        for (marks, reason) in rules {
            let found = files.names.first { name in
                // A mark such as ".scales" must be at the end of the name. A mark that does not begin with a dot, or
                // that ends with one, may be anywhere in the name.
                marks.contains {
                    $0.hasSuffix(".") || !$0.hasPrefix(".")
                        ? name.contains($0) : name.hasSuffix($0)
                }
            }
            guard let found else { continue }
            throw CheckpointError.refusedTensor(
                path: files.listPath, tensor: found, reason: reason)
        }
    }

    /// Whether a tensor outside the table changes nothing. This is true for rotary tables, which the program computes
    /// itself, and for the unembedding, which `checkTied` checks.
    private static func isHarmless(_ name: String) -> Bool {
        name == unembedding
            || [".inv_freq", ".cos_cached", ".sin_cached"].contains(where: name.hasSuffix)
                && name.contains("rotary_emb")
    }

    /// Returns why the tensor `name`, which is not in the table, would change the results. Nil if no reason is known.
    private static func change(
        by name: String, _ files: CheckpointFiles, _ config: Gemma2Config
    ) -> String? {
        let isHead = name.hasPrefix("lm_head.")
        guard isHead || files.lacksPrefix || name.hasPrefix("model.") else { return nil }
        let parts = (name.hasPrefix("model.") ? name.dropFirst(6) : name[...]).split(separator: ".")
        // The list is empty if the name consists of dots.
        guard let first = parts.first, isHead || ["embed_tokens", "layers", "norm"].contains(first)
        else { return nil }
        // Layers beyond those of the configuration are ignored, as in transformers.
        if first == "layers", parts.count > 1, let layer = Int(parts[1]),
            layer >= config.nLayers
        {
            return nil
        }
        let advice = "check that this is the checkpoint of a Gemma-2 model"
        if parts.last == "bias" { return "is a bias, and Gemma-2 has none; \(advice)" }
        if parts.suffix(2).contains(where: { $0.contains("norm") }) {
            return "is of a norm that Gemma-2 does not have; \(advice)"
        }
        return nil
    }

    /// Throws if the stored unembedding differs from the embedding to which the configuration ties it. Up to 64 rows
    /// are enough: if the unembedding was trained separately, all of its rows have changed.
    private func checkTied(_ config: Gemma2Config) throws {
        let embedding = try tensor("model.embed_tokens.weight")
        let head = try files.tensor(CheckpointTensors.unembedding)
        let (rows, width) = (config.dVocab, config.dModel)
        var isEqual = head.shape == embedding.shape
        var (a, b) = ([Float](repeating: 0, count: width), [Float](repeating: 0, count: width))
        for sample in 0..<64 where isEqual {
            let start = (rows - 1) * sample / 63 * width
            embedding.convert(from: start, count: width, to: &a)
            head.convert(from: start, count: width, to: &b)
            isEqual = a == b
        }
        guard !isEqual else { return }
        throw CheckpointError.refusedTensor(
            path: head.path, tensor: head.name,
            reason:
                "differs from \(embedding.name), although tie_word_embeddings in config.json is true (or missing, which means true); transformers 4 ignores this tensor, transformers 5 uses it; set tie_word_embeddings to false if the tensor should be used, otherwise remove the tensor"
        )
    }
}

extension String {
    /// Returns the length in bytes of the common prefix of both strings.
    fileprivate func sharedBytes(with other: String) -> Int {
        zip(utf8, other.utf8).prefix { $0 == $1 }.count
    }
}
