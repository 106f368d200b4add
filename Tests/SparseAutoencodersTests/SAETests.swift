// Tests of choosing, reading and applying SAEs.

import ArrayFiles
import CPUBackend
import Foundation
import Hooks
import Tensors
import TestSupport
import Testing
import Threading

@testable import SparseAutoencoders

struct SAETests {
    private func catalogue(_ site: String) throws -> SAECatalogue {
        try SAECatalogue(
            directory: "\(TestData.tiny)/sae/gemma-scope-2b-pt-\(site)", layers: Array(0..<11))
    }

    @Test func theNearestL0IsTaken() throws {
        for (site, expected) in [
            ("res", [46, 40, 51, 34]), ("mlp", [60, 48, 45, 35]), ("att", [57, 59, 36, 44]),
        ] {
            for layer in 0..<4 {
                let id = try catalogue(site).nearest(layer: layer, width: "16k", target: 50)
                #expect(id.averageL0 == expected[layer])
            }
        }
        let res = try catalogue("res")
        #expect(try res.nearest(layer: 0, width: "65k", target: 1).averageL0 == 50)
        // layer_10 must not be taken for layer_1.
        #expect(try res.nearest(layer: 1, width: "16k", target: 50).averageL0 == 40)
    }

    @Test func onATieTheLowerIsTaken() throws {
        // 9 and 51 have the same distance from 30.
        let id = try catalogue("res").nearest(layer: 2, width: "16k", target: 30)
        #expect(id.description == "layer_2/width_16k/average_l0_9")
    }

    /// Checks that the list of a repository's files gives the same catalogue as its folder.
    @Test func aListOfPathsIsACatalogueToo() throws {
        let root = TestData.tiny + "/sae/gemma-scope-2b-pt-res"
        let enumerator = try #require(FileManager.default.enumerator(atPath: root))
        let paths = enumerator.compactMap { $0 as? String }
        let listed = SAECatalogue(repository: "google/gemma-scope-2b-pt-res", paths: paths)
        let walked = try catalogue("res")
        #expect(listed.layers == [0, 1, 2, 3, 10] && walked.layers == listed.layers)
        for layer in listed.layers {
            #expect(listed.widths(layer: layer) == walked.widths(layer: layer))
            for width in listed.widths(layer: layer) {
                #expect(
                    try listed.averageL0s(layer: layer, width: width)
                        == walked.averageL0s(layer: layer, width: width))
            }
        }
        // Folders without an SAE and unrelated files are ignored.
        let odd = SAECatalogue(
            repository: "r",
            paths: [
                "README.md", "layer_1/width_16k/average_l0_5/README.md", "params.npz",
                "embedding/width_4k/average_l0_6/params.npz",
                "layer_7/width_1m/average_l0_20/params.npz",
                "layer_7/width_65k/average_l0_9/cfg.json",
                "layer_7/width_65k/average_l0_9/sae_weights.safetensors",
            ])
        #expect(odd.layers == [7] && odd.widths(layer: 7) == ["65k", "1m"])
        #expect(try odd.averageL0s(layer: 7, width: "65k") == [9])
        #expect(
            throws: SAEChoiceError.noWidth(
                repository: "r", layer: 7, width: "16k", existing: ["65k", "1m"])
        ) { try odd.nearest(layer: 7, width: "16k", target: 1) }
    }

    @Test func identifiersAreReadStrictly() {
        #expect(
            SAEIdentifier("layer_5/width_16k/average_l0_51")
                == SAEIdentifier(layer: 5, width: "16k", averageL0: 51))
        for text in [
            "", "layer_5", "layer_5/width_16k", "layer_x/width_16k/average_l0_5",
            "layer_5/width_/average_l0_5",
            "layer_5/width_16k/average_l0_", "layer_5/width_16k/average_l0_-5",
            "layer_5/width_16k/average_l0_5/x",
            "layer_5/width_16k/canonical", "/layer_5/width_16k/average_l0_5",
        ] {
            #expect(SAEIdentifier(text) == nil)
        }
    }

    @Test func theSizeFollowsTheLabel() {
        #expect(ScopeSize(label: "google/gemma-2-9b") == .large)
        #expect(ScopeSize(label: "my-Gemma-9B-finetune") == .large)
        #expect(ScopeSize(label: "google/gemma-2-2b") == .small)
        #expect(ScopeSize(label: "other") == .small)
        #expect(ScopeSize(label: "run-a9b3") == .small)
    }

    @Test func treesAreFoundInEachLayout() throws {
        let folder = try TemporaryFolder()
        #expect(throws: SAEChoiceError.self) {
            try SAETree(directory: folder.path, size: .large).repository(site: "mlp")
        }
        for layout in ["mlp", "google/gemma-scope-9b-pt-mlp", "gemma-scope-9b-pt-mlp"] {
            try folder.write([], "\(layout)/x")
            let found = try SAETree(directory: folder.path, size: .large).repository(site: "mlp")
            #expect(found == folder.file(layout))
        }
    }

    @Test func bothFileFormsHoldTheSameSAE() throws {
        for (site, hook, dIn, l0s) in [
            ("res", "hook_resid_post", 64, [46, 40, 51, 34]),
            ("mlp", "hook_mlp_out", 64, [60, 48, 45, 35]),
            ("att", "attn.hook_z", 128, [57, 59, 36, 44]),
        ] {
            for (layer, l0) in l0s.enumerated() {
                let id = "layer_\(layer)/width_16k/average_l0_\(l0)"
                let scope = try SAEParameters(
                    directory: "\(TestData.tiny)/sae/gemma-scope-2b-pt-\(site)/\(id)", dIn: dIn,
                    hookName: "blocks.\(layer).\(hook)")
                let lens = try SAEParameters(
                    directory: "\(TestData.tiny)/sae-lens/\(site)/\(id)", dIn: dIn,
                    hookName: "blocks.\(layer).\(hook)")
                #expect(scope.bEnc.floats() == lens.bEnc.floats())
                #expect(scope.threshold.floats() == lens.threshold.floats())
                #expect(inCOrder(scope.wEnc) == lens.wEnc.floats())
                #expect(inCOrder(scope.wDec) == lens.wDec.floats())
            }
        }
    }

    private func inCOrder(_ tensor: StoredTensor) -> [Float] {
        let values = tensor.floats()
        guard tensor.isFortranOrder else { return values }
        let (rows, columns) = (tensor.shape[0], tensor.shape[1])
        return (0..<values.count).map { values[$0 % columns * rows + $0 / columns] }
    }

    /// Checks that a decoded row is f · W_dec + b_dec.
    @Test func decodingIsAProduct() throws {
        let folder = try TemporaryFolder()
        let (d, count, rows) = (4096, 50, 90)
        var random = SeededGenerator(8)
        let (decoder, bias) = (random.floats(count * d), random.floats(d))
        var builder = SafetensorsBuilder()
        builder.add("W_enc", [d, count], [Float](repeating: 0, count: d * count))
        builder.add("W_dec", [count, d], decoder)
        builder.add("b_enc", [count], [Float](repeating: 0, count: count))
        builder.add("b_dec", [d], bias)
        builder.add("threshold", [count], [Float](repeating: 0, count: count))
        try folder.write(builder.bytes(), "sae_weights.safetensors")
        try folder.write(
            #"{"architecture":"jumprelu","apply_b_dec_to_input":false,"d_in":4096}"#.utf8,
            "cfg.json")
        let sae = try JumpReLUSAE(
            try SAEParameters(directory: folder.path, dIn: d, hookName: "blocks.0.hook_resid_post"),
            on: try OpenBLASBackend(on: ThreadPool(threadCount: 2)))
        var features = SparseRows()
        for row in 0..<rows {
            // Some rows have no features.
            for column in 0..<Int32(count) where row % 7 != 3 && Bool.random(using: &random) {
                features.columns.append(column)
                features.values.append(Float.random(in: 0...3, using: &random))
            }
            features.starts.append(features.columns.count)
        }
        var worst = 0.0
        for row in 0..<rows {
            let decoded = sae.decode(features, row: row)
            #expect(decoded.count == d)
            var wanted = bias.map(Double.init)
            for entry in features.entries(of: row) {
                let start = Int(features.columns[entry]) * d
                for i in 0..<d {
                    wanted[i] += Double(features.values[entry]) * Double(decoder[start + i])
                }
            }
            for i in 0..<d {
                let found = Double(decoded[i])
                worst = max(worst, abs(found - wanted[i]) / (1 + abs(wanted[i])))
            }
        }
        #expect(worst < 1e-5)
    }

    /// Tests the explained variance of an SAE that reconstructs exactly, and of one that does not.
    @Test func explainedVarianceIsOneForAPerfectSAE() throws {
        // Each dimension has two features, one for positive and one for negative values. Their decoder rows are the
        // unit vector of the dimension and its negative.
        let folder = try TemporaryFolder()
        let d = 5
        var builder = SafetensorsBuilder()
        var (encoder, decoder) = (
            [Float](repeating: 0, count: d * 2 * d), [Float](repeating: 0, count: 2 * d * d)
        )
        for i in 0..<d {
            (encoder[i * 2 * d + i], encoder[i * 2 * d + d + i]) = (1, -1)
            (decoder[i * d + i], decoder[(d + i) * d + i]) = (1, -1)
        }
        builder.add("W_enc", [d, 2 * d], encoder)
        builder.add("W_dec", [2 * d, d], decoder)
        builder.add("b_enc", [2 * d], [Float](repeating: 0, count: 2 * d))
        builder.add("b_dec", [d], [Float](repeating: 0, count: d))
        builder.add("threshold", [2 * d], [Float](repeating: 0, count: 2 * d))
        try folder.write(builder.bytes(), "sae_weights.safetensors")
        try folder.write(
            #"{"architecture":"jumprelu","apply_b_dec_to_input":false,"d_in":5}"#.utf8, "cfg.json")
        let backend = try OpenBLASBackend(on: ThreadPool(threadCount: 2))
        let sae = try JumpReLUSAE(
            try SAEParameters(directory: folder.path, dIn: d, hookName: "blocks.0.hook_resid_post"),
            on: backend)
        var random = SeededGenerator(12)
        let values = random.floats(20 * d)
        let x = backend.matrix(rows: 20, columns: d, values)
        let all = try sae.encode(x, above: 0).value().rows([0..<20])
        #expect(all.columns.count == 20 * d)
        #expect(abs(sae.explainedVariance(of: values, features: all) - 1) < 1e-9)
        let few = all.filtered(above: 0.5)
        let explained = sae.explainedVariance(of: values, features: few)
        #expect(explained > 0.3 && explained < 0.99)
    }
}
