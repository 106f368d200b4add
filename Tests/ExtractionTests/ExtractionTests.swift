// Tests of batching, file names, identities of files, and plans.

import Corpus
import Files
import Foundation
import Hooks
import TestSupport
import Testing

@testable import Planning
@testable import RunFiles

struct ExtractionTests {
    // MARK: Batching

    @Test func fixedBatchesHaveThatManyDocuments() {
        #expect(
            BatchLimit.documents(3).batches(lengths: Array(repeating: 9, count: 7)) == [
                0..<3, 3..<6, 6..<7,
            ])
        #expect(BatchLimit.documents(1).batches(lengths: [1, 1]) == [0..<1, 1..<2])
        #expect(BatchLimit.documents(5).batches(lengths: []) == [])
    }

    @Test func automaticBatchesFitTheBudget() {
        var random = SeededGenerator(13)
        let lengths = (0..<500).map { _ in Int.random(in: 1...360, using: &random) }
        let batches = BatchLimit.tokens(1000).batches(lengths: lengths)
        #expect(batches.flatMap { $0 } == Array(0..<500))
        for (batch, next) in zip(batches, batches.dropFirst()) {
            let tokens = lengths[batch].reduce(0, +)
            #expect(tokens <= 1000)
            // The next document would not have fitted into the budget.
            #expect(tokens + lengths[next.lowerBound] > 1000)
        }
        // A document longer than the budget is alone in its batch.
        #expect(BatchLimit.tokens(1000).batches(lengths: [10, 5000, 10]) == [0..<1, 1..<2, 2..<3])
    }

    // MARK: Names

    @Test(arguments: [
        ("harbour", "harbour"), ("quarry works", "quarry works"), ("lantérne", "lantérne"),
        ("", "%"), ("a/b", "a%2Fb"), ("a\u{0}b", "a%00b"), ("50%", "50%25"), (".x.y", "%2Ex.y"),
        ("a_b", "a_b"), ("_a_", "%5Fa%5F"), ("a__b", "a%5F%5Fb"), ("_", "%5F"),
        ("a\u{7F}\n", "a%7F%0A"),
        ("a_b__", "a_b%5F%5F"),
    ])
    func authorsAreEncodedForFileNames(author: String, encoded: String) {
        let naming = OutputNaming(label: "google/gemma-2-2b")
        #expect(naming.encoded(author) == encoded)
        #expect(
            naming.file(.entropy, author: author)
                == "sae__google_gemma-2-2b__entropy_loss__\(encoded).npy")
    }

    @Test func longNamesAreCutAndTellApart() {
        let naming = OutputNaming(label: "m")
        #expect(naming.encoded(String(repeating: "a", count: 150)).utf8.count == 150)
        let (a, b) = (String(repeating: "é", count: 100), String(repeating: "é", count: 99) + "è")
        for name in [a, b, String(repeating: "/", count: 60)] {
            let encoded = naming.encoded(name)
            #expect(encoded.utf8.count <= 150)
            #expect(encoded.contains("%-"))
            #expect(!encoded.contains("\u{FFFD}"))
        }
        #expect(naming.encoded(a) != naming.encoded(b))
        #expect(naming.encoded(a).hasPrefix(String(repeating: "é", count: 66) + "%-"))
    }

    @Test func activationsAreNamedBySiteAndLayer() {
        let naming = OutputNaming(label: "google/gemma-2-2b")
        let hook = HookPoint(layer: 5, site: .mlp)
        #expect(
            naming.activations(hook, author: "x", isSparse: false)
                == "sae__google_gemma-2-2b__mlp__activations__x__layer_5.npz")
        #expect(
            naming.activations(hook, author: "x", isSparse: true)
                == "sae__google_gemma-2-2b__mlp__activations__x__layer_5.sparse.npz")
    }

    // MARK: Identity

    @Test func identitiesSeeSizeHeaderAndBlocks() throws {
        let folder = try TemporaryFolder()
        func identity(_ bytes: [UInt8]) throws -> String {
            try MappedFile(path: folder.write(bytes, "f")).identity(headerLength: 100)
        }
        let small = [UInt8](repeating: 1, count: 1000)
        #expect(try identity(small) == identity(small))
        #expect(try identity(small) != identity(small + [1]))
        var large = [UInt8](repeating: 1, count: 9 << 20)
        let first = try identity(large)
        large[50] = 2
        #expect(try identity(large) != first)
        large[50] = 1
        large[large.count - 1] = 2
        #expect(try identity(large) != first)
    }

    // MARK: Plan

    @Test func plansNormalizeAndSurviveEncoding() throws {
        var options = RunOptions()
        options.layers = [3, 1, 3]
        options.sites = [.att, .res]
        options.modelPath = TestData.tiny + "/model"
        options.saeDirectory = TestData.tiny + "/sae"
        options.dataPath = TestData.tiny + "/authormix.jsonl"
        options.saeIDs = [(.res, .init(layer: 3, width: "16k", averageL0: 143))]
        let plan = try RunPlan(local: options)
        #expect(
            plan.saes.map(\.hook.description) == [
                "blocks.1.hook_resid_post", "blocks.1.attn.hook_z", "blocks.3.hook_resid_post",
                "blocks.3.attn.hook_z",
            ])
        #expect(plan.saes.map(\.id.averageL0) == [40, 59, 143, 44])
        #expect(
            plan.authors.map(\.author) == [
                "orchard", "harbour", "quarry works", "marsh-9", "lantérne",
            ])
        #expect(plan.rows == 15 && plan.columns == 359)
        let copy = try JSONDecoder().decode(RunPlan.self, from: JSONEncoder().encode(plan))
        #expect(copy.authors == plan.authors && copy.rows == plan.rows)
        #expect(copy.saes.map(\.directory) == plan.saes.map(\.directory))
    }

    @Test func aFolderNamesTheModelByItsLastComponent() throws {
        var options = RunOptions()
        options.layers = [0]
        options.saeDirectory = TestData.tiny + "/sae"
        options.dataPath = TestData.tiny + "/authormix.jsonl"
        for spelling in ["/model", "/model/", "/model/."] {
            options.model = TestData.tiny + spelling
            #expect(try RunPlan(local: options).label == "model")
        }
    }
}
