// Tests of the model: spellings of the configuration, forms of checkpoints, attention, and batches of several
// documents.

import CPUBackend
import Foundation
import Hooks
import Tensors
import TestSupport
import Testing
import Threading

@testable import Gemma2

struct Gemma2Tests {
    private let backend = try! OpenBLASBackend(on: ThreadPool(threadCount: 2))

    private func model(_ folder: String) throws -> Gemma2Model<OpenBLASBackend> {
        try Gemma2Model(
            CheckpointFiles(directory: folder), config: Gemma2Config(path: folder + "/config.json"),
            maximumLength: 400, on: backend)
    }

    /// Returns all taps and predictions of a batch.
    private func run(
        _ model: Gemma2Model<OpenBLASBackend>, _ documents: [[Int32]]
    ) throws -> (taps: [HookPoint: [Float]], predictions: TokenPredictions) {
        var taps: [HookPoint: [Float]] = [:]
        let predictions = try model.forward(PackedBatch(documents)) { hook, x in
            taps[hook] = backend.elements(of: x, rows: 0..<x.rows)
        }
        return (taps, try predictions.value())
    }

    private func documents(_ lengths: [Int]) -> [[Int32]] {
        var random = SeededGenerator(11)
        return lengths.map { length in
            [2] + (1..<length).map { _ in Int32.random(in: 31..<640, using: &random) }
        }
    }

    /// Changes one token and checks at which positions the output changes. In a local layer, a query sees the last
    /// `slidingWindow` tokens, including its own. In a global layer, it sees all tokens up to its own.
    @Test func localLayersSeeTheWindowAndGlobalLayersAll() throws {
        let model = try model(TestData.tiny + "/model")
        let (window, changed, length) = (model.config.slidingWindow, 5, 40)
        var document = documents([length])[0]
        let before = try run(model, [document]).taps
        document[changed] = document[changed] == 100 ? 101 : 100
        let after = try run(model, [document]).taps
        for (layer, isLocal) in [(0, true), (1, false)] {
            #expect(model.config.isLocal[layer] == isLocal)
            let hook = HookPoint(layer: layer, site: .att)
            let width = model.config.width(of: .att)
            let seen = (0..<length).filter { position in
                let row = position * width..<(position + 1) * width
                return before[hook]![row] != after[hook]![row]
            }
            #expect(seen == Array(changed..<(isLocal ? changed + window : length)))
        }
    }

    @Test func bothSpellingsOfTheConfigurationAreRead() throws {
        let old = try Gemma2Config(path: TestData.tiny + "/model/config.json")
        #expect(old.dModel == 64 && old.nLayers == 4 && old.nHeads == 4 && old.nKVHeads == 2)
        #expect(old.attentionSoftCap == 50 && old.finalSoftCap == 30 && old.slidingWindow == 16)
        #expect(old.isLocal == [true, false, true, false] && old.rotaryBase == 10_000)
        let new = try Gemma2Config(path: TestData.tiny + "/model-single/config.json")
        #expect(new.attentionSoftCap == 40 && new.finalSoftCap == 25 && new.slidingWindow == 24)
        #expect(new.epsilon == 1e-3 && new.rotaryBase == 5000 && new.queryPreAttentionScalar == 40)
        #expect(new.isLocal == old.isLocal)
    }

    private func config(_ old: String, _ new: String) throws -> Gemma2Config {
        let folder = try TemporaryFolder()
        let text = String(
            decoding: try TestData.bytes(TestData.tiny + "/model/config.json"), as: UTF8.self)
        precondition(text.contains(old))
        return try Gemma2Config(
            path: folder.write(text.replacingOccurrences(of: old, with: new).utf8, "config.json"))
    }

    @Test func otherSpellingsOfTheConfiguration() throws {
        #expect(
            try config("\"attn_logit_softcapping\": 50.0", "\"attn_logit_softcapping\": null")
                .attentionSoftCap == nil)
        #expect(try config("\"final_logit_softcapping\": 30.0,", "").finalSoftCap == 30)
        let nested = "\"rope_parameters\": {\"rope_theta\": 500.0, \"rope_type\": \"default\"}"
        #expect(try config("\"rope_theta\": 10000.0", nested).rotaryBase == 500)
        #expect(throws: CheckpointError.self) {
            try config("\"rope_theta\": 10000.0", "\"rope_parameters\": {\"rope_type\": \"yarn\"}")
        }
        #expect(throws: CheckpointError.self) {
            try config("\"rope_theta\": 10000.0", "\"rope_scaling\": {\"type\": \"linear\"}")
        }
        #expect(throws: CheckpointError.self) {
            try config("\"attention_bias\": false", "\"attention_bias\": true")
        }
        #expect(throws: CheckpointError.self) {
            try config("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3")
        }
    }

    /// Compares the results of a document alone with its results in a batch with other documents.
    @Test(arguments: ["model", "model-single"])
    func packingChangesNothing(name: String) throws {
        let model = try model("\(TestData.tiny)/\(name)")
        let documents = documents([40, 1, 150, 3])
        let packed = try run(model, documents)
        var start = 0
        for document in documents {
            let alone = try run(model, [document])
            for (hook, wanted) in alone.taps {
                let width = model.config.width(of: hook.site)
                let found = packed.taps[hook]![start * width..<(start + document.count) * width]
                let errors = zip(wanted, found).map { abs($0 - $1) / (1 + abs($0)) }
                // For comparison: the reference's logits differ by 1.3e-4 between padded and unpadded documents.
                #expect(errors.allSatisfy { $0 < 5e-4 }, "\(hook): \(errors.max()!)")
            }
            for row in 0..<document.count {
                let (a, b) = (alone.predictions, packed.predictions)
                #expect(abs(a.entropy[row] - b.entropy[start + row]) < 1e-3)
                #expect(abs(a.crossEntropy[row] - b.crossEntropy[start + row]) < 1e-3)
            }
            start += document.count
        }
        #expect(packed.taps.count == 12)
    }

    /// Checks that later tokens of a document do not change activations at earlier positions.
    @Test func attentionIsCausal() throws {
        let model = try model(TestData.tiny + "/model")
        let document = documents([60])[0]
        let changed = Array(document[..<40]) + document[40...].map { $0 == 50 ? 51 : 50 }
        let (a, b) = (try run(model, [document]), try run(model, [changed]))
        for (hook, x) in a.taps {
            let width = model.config.width(of: hook.site)
            #expect(x[..<(40 * width)] == b.taps[hook]![..<(40 * width)])
            #expect(x[(40 * width)...] != b.taps[hook]![(40 * width)...])
        }
    }

    @Test func tapsComeInOrderWithTheirWidths() throws {
        let model = try model(TestData.tiny + "/model")
        var order: [String] = []
        _ = try model.forward(PackedBatch(documents([5]))) { hook, x in
            order.append(hook.description)
            #expect(x.rows == 5 && x.columns == model.config.width(of: hook.site))
        }
        #expect(
            order.prefix(3) == [
                "blocks.0.attn.hook_z", "blocks.0.hook_mlp_out", "blocks.0.hook_resid_post",
            ])
        #expect(order.count == 12)
        // The residual stream is tapped last, after attention and MLP outputs were added to it.
        #expect(order.last == "blocks.3.hook_resid_post")
    }

    /// Checks that weights in bfloat16 in one file give nearly the same activations as in float32 in shards.
    @Test func everyCheckpointFormIsTheSameModel() throws {
        let folder = try TemporaryFolder()
        // This folder has the bfloat16 weights and the configuration of the float32 model.
        let path = try folder.copy(TestData.tiny + "/model-single", "model")
        try FileManager.default.removeItem(atPath: path + "/config.json")
        try folder.copy(TestData.tiny + "/model/config.json", "model/config.json")
        let documents = documents([30])
        let sharded = try run(try model(TestData.tiny + "/model"), documents)
        let rounded = try run(try model(path), documents)
        let hook = HookPoint(layer: 0, site: .res)
        let (a, b) = (sharded.taps[hook]!, rounded.taps[hook]!)
        let error = zip(a, b).reduce(0.0) { $0 + pow(Double($1.0 - $1.1), 2) }
        let size = a.reduce(0.0) { $0 + pow(Double($1), 2) }
        #expect((error / size).squareRoot() < 0.02)
        #expect(a != b)
    }

    @Test func untiedUnembeddingsAreUsed() throws {
        let folder = try TemporaryFolder()
        let path = try folder.copy(TestData.tiny + "/model-single", "model")
        let text = try TestData.text(path + "/config.json")
        try TestData.write(
            text.replacingOccurrences(
                of: "\"tie_word_embeddings\": true", with: "\"tie_word_embeddings\": false"
            ).utf8,
            to: path + "/config.json")
        let error = #expect(throws: CheckpointError.self) { try model(path) }
        #expect("\(String(describing: error))".contains("lm_head.weight"))
    }
}
