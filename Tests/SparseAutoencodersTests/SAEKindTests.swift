// Tests that SAEs of other kinds than JumpReLU are refused.

import ArrayFiles
import ByteJSON
import TestSupport
import Testing

@testable import SparseAutoencoders

struct SAEKindTests {
    private static let source = TestData.tiny + "/sae-lens/res/layer_0/width_16k/average_l0_46"
    private static let hook = "blocks.0.hook_resid_post"
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        try folder.copy(Self.source, "sae")
    }

    private func check(hook: String = hook, label: String? = nil) throws -> [String] {
        try SAEFile(directory: folder.file("sae")).check(dIn: 64, hookName: hook, label: label)
    }

    private func configure(_ change: (inout JSONObject) -> Void) throws {
        try folder.write(changedJSON(Self.source + "/cfg.json", change), "sae/cfg.json")
    }

    /// Returns a change that replaces a configuration by one that SAELens 6 writes.
    private func version6(_ metadata: JSONObject) -> (inout JSONObject) -> Void {
        {
            $0 = [
                "d_in": 64, "d_sae": 70, "dtype": "float32", "device": "cpu",
                "apply_b_dec_to_input": .bool(false), "normalize_activations": "none",
                "reshape_activations": "none", "architecture": "jumprelu",
                "metadata": .object(metadata),
            ]
        }
    }

    /// Checks that `params.npz` is read if a folder has both forms of SAE files. A warning must name the other files.
    @Test func bothFormsInOneFolder() throws {
        try folder.copy(
            TestData.tiny
                + "/sae/gemma-scope-2b-pt-res/layer_0/width_16k/average_l0_46/params.npz",
            "sae/params.npz")
        let warnings = try check()
        #expect(warnings.count == 1, "\(warnings)")
        #expect(warnings.first?.contains("params.npz is read") == true)
        #expect(warnings.first?.contains("cfg.json and sae_weights.safetensors") == true)
    }

    @Test func formsThatMeanTheSame() throws {
        #expect(try check(label: "google/gemma-2-2b") == [])
        let changes: [(inout JSONObject) -> Void] = [
            { $0["normalize_activations"] = .bool(false) },
            { $0["normalize_activations"] = .null }, { $0["normalize_activations"] = nil },
            {
                $0["hook_point"] = $0["hook_name"]
                $0["hook_name"] = nil
            },
            { $0["activation_fn"] = "relu" }, { $0["dtype"] = "bfloat16" },
            { $0["model_name"] = "google/gemma-2-2b" },
            {
                $0["model_from_pretrained_kwargs"] = .object([
                    "center_writing_weights": .bool(false), "fold_ln": .bool(false),
                    "n_devices": 2, "dtype": "bfloat16",
                ])
            },
            version6([
                "sae_lens_version": "6.5.0", "model_name": "gemma-2-2b",
                "hook_name": .string(Self.hook), "hook_head_index": .null,
                "prepend_bos": .bool(true),
            ]),
        ]
        for change in changes {
            try configure(change)
            #expect(try check(label: "google/gemma-2-2b") == [])
        }
    }

    @Test(
        arguments: [
            (["architecture": "standard"], "architecture is \"standard\""),
            (["activation_fn_str": "topk"], "activation_fn_str is \"topk\", expected \"relu\""),
            (["activation_fn": "tanh-relu"], "activation_fn is \"tanh-relu\""),
            (["activation_fn_kwargs": .object(["k": 32])], "activation_fn_kwargs is {\"k\":32}"),
            (["apply_b_dec_to_input": .bool(true)], "apply_b_dec_to_input is true, expected false"),
            (["normalize_activations": "layer_norm"], "normalize_activations is \"layer_norm\""),
            (["normalize_activations": .bool(true)], "normalize_activations is true"),
            (["hook_head_index": 2], "hook_head_index is 2, expected null"),
            (["hook_point_head_index": 0], "hook_point_head_index is 0"),
            (
                ["hook_name": "blocks.3.hook_resid_post"],
                "hook_name is \"blocks.3.hook_resid_post\""
            ),
            (["hook_point": "blocks.0.hook_mlp_out"], "hook_point is \"blocks.0.hook_mlp_out\""),
            (["hook_layer": 3], "hook_layer is 3, expected 0"),
            (["d_in": 128], "d_in is 128, expected 64"),
            (["d_sae": 71], "d_sae is 71, expected 70"),
            (["reshape_activations": "hook_z"], "reshape_activations is \"hook_z\""),
            (["hook_name_out": "blocks.0.hook_mlp_out"], "hook_name_out is"),
            (
                ["metadata": .object(["hook_name": "blocks.1.hook_resid_post"])],
                "metadata.hook_name is"
            ),
            (["metadata": .object(["hook_head_index": 1])], "metadata.hook_head_index is 1"),
            (["rescale_acts_by_decoder_norm": .bool(true)], "rescale_acts_by_decoder_norm is true"),
            (
                ["model_from_pretrained_kwargs": .object(["center_writing_weights": .bool(true)])],
                "model_from_pretrained_kwargs.center_writing_weights is true, expected false"
            ),
            (
                [
                    "metadata": .object([
                        "model_from_pretrained_kwargs": .object(["fold_ln": .bool(true)])
                    ])
                ],
                "metadata.model_from_pretrained_kwargs.fold_ln is true"
            ),
            (["model_from_pretrained_kwargs": "fast"], "model_from_pretrained_kwargs is \"fast\""),
        ] as [(JSONObject, String)])
    func otherConfigurationsAreRefused(values: JSONObject, reason: String) throws {
        try configure { for (key, value) in values.members { $0[key] = value } }
        let error = #expect(throws: SAEError.self) { try check() }
        let text = "\(String(describing: error))"
        #expect(text.contains("cfg.json: \(reason)"), "\(text)")
    }

    /// For a missing key, SAELens takes a default. This program does not compute SAEs with these defaults.
    @Test(arguments: [("architecture", "\"standard\""), ("apply_b_dec_to_input", "true")])
    func defaultsAreNamed(key: String, value: String) throws {
        try configure { $0[key] = nil }
        let error = #expect(throws: SAEError.self) { try check() }
        #expect(
            "\(String(describing: error))".contains(
                "\(key) is missing, which SAELens takes for \(value)"))
    }

    @Test(
        arguments: [
            ("gemma-2-2b-it", "google/gemma-2-2b", true), ("gemma-2-9b", "google/gemma-2-2b", true),
            ("gpt2-small", "my-model", true), ("gemma-2-9b", "google/gemma-2-9b", false),
            // SAEs of the base model are also used for models that were fine-tuned from it.
            ("gemma-2-2b", "gemma-2-2b-it", false), ("Gemma-2-2B-it", "gemma-2-2b-it", false),
        ])
    func anotherModelIsNamed(name: String, label: String, isNamed: Bool) throws {
        for change in [
            { $0["model_name"] = .string(name) }, version6(["model_name": .string(name)]),
        ] {
            try configure(change)
            let warnings = try check(label: label)
            #expect(warnings.count == (isNamed ? 1 : 0))
            for warning in warnings {
                #expect(warning.contains("model_name is \"\(name)\"") && warning.contains(label))
            }
        }
    }

    @Test func unknownKeysAndTensorsAreNamedOnce() throws {
        try configure { $0["flavour"] = 1 }
        try addTensor("W_other", [2])
        let warnings = try check()
        #expect(warnings.count == 2)
        #expect(warnings[0].contains("cfg.json: has keys") && warnings[0].contains("flavour"))
        #expect(warnings[1].contains("tensors") && warnings[1].contains("W_other"))
    }

    private func addTensor(_ name: String, _ shape: [Int], value: Float = 0) throws {
        try changeTensors {
            $0.add(name, shape, [Float](repeating: value, count: shape.reduce(1, *)))
        }
    }

    private func changeTensors(_ change: (inout SafetensorsBuilder) -> Void) throws {
        var builder = try SafetensorsBuilder(copyOf: Self.source + "/sae_weights.safetensors")
        change(&builder)
        try folder.write(builder.bytes(), "sae/sae_weights.safetensors")
    }

    @Test(
        arguments: [
            ("log_threshold", "save_inference_model"), ("r_mag", "gated"), ("W_gate", "gated"),
            ("k", "TopK"), ("W_skip", "transcoder"), ("s_scale", "scales"),
            ("scaling_factor", "not 1"),
        ])
    func otherKindsOfTensorsAreRefused(name: String, kind: String) throws {
        try addTensor(name, [70])
        let error = #expect(throws: SAEError.self) { try check() }
        let text = "\(String(describing: error))"
        #expect(text.contains("tensor \(name)") && text.contains(kind), "\(text)")
    }

    @Test func factorsOfOneChangeNothing() throws {
        try addTensor("scaling_factor", [70], value: 1)
        #expect(try check() == [])
    }

    @Test func whatIsThereInsteadIsNamed() throws {
        try changeTensors { $0.entries.removeAll { $0.name == "threshold" } }
        var text = "\(String(describing: #expect(throws: SAEError.self) { try check() }))"
        #expect(text.contains("tensor threshold is not in the file") && text.contains("b_enc"))
        let names = ["W_enc": "encoder.weight", "W_dec": "decoder.weight"]
        try changeTensors {
            for i in $0.entries.indices {
                $0.entries[i].name = names[$0.entries[i].name] ?? $0.entries[i].name
            }
        }
        text = "\(String(describing: #expect(throws: SAEError.self) { try check() }))"
        #expect(text.contains("W_enc is not in the file; encoder.weight is stored"), "\(text)")
    }

    /// Checks that `check` finds errors in the headers of an archive without reading the weights.
    @Test func archivesAreLookedAtWithoutTheirWeights() throws {
        let path = TestData.tiny + "/sae/gemma-scope-2b-pt-res/layer_0/width_16k/average_l0_46"
        let file = try SAEFile(directory: path)
        #expect(try file.check(dIn: 64, hookName: Self.hook, label: "other") == [])
        #expect(try file.dSAE() == 70)
        #expect(throws: SAEError.self) { try file.check(dIn: 65, hookName: Self.hook) }
        // One byte in the elements of a stored array is changed. Only reading the elements finds it, by the checksum.
        var bytes = try TestData.bytes(path + "/params.npz")
        bytes[20_000] ^= 1
        try folder.write(bytes, "npz/params.npz")
        let damaged = folder.file("npz")
        #expect(try SAEFile(directory: damaged).check(dIn: 64, hookName: Self.hook) == [])
        #expect(throws: NPZError.self) {
            try SAEParameters(directory: damaged, dIn: 64, hookName: Self.hook)
        }
    }
}
