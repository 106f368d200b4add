// Tests that options are checked and normalized, and that a plan is equal after it was encoded and decoded.

import Corpus
import Foundation
import Hooks
import TestSupport
import Testing

@testable import Planning

struct RunPlanTests {
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
