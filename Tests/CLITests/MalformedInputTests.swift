// Tests of bad input. It must cause no crash and no incomplete file. The error must name the place and the next step.

import Files
import Foundation
import TestSupport
import Testing

struct MalformedInputTests {
    @Test(arguments: checkpoints + tokenizers + corpora + saes + flags + system + otherFiles)
    func isReported(input: MalformedInput) throws {
        var job = try Job()
        try input.damage(&job)
        guard Tool.hasLimits || !job.launcher.contains(where: { $0.contains("ulimit -") }) else {
            return
        }
        let outcome = try Tool.run(job.arguments, launcher: job.launcher)
        #expect(outcome.status == input.status, "\(outcome.errors)")
        for mention in input.mentions {
            #expect(outcome.errors.contains(mention), "no '\(mention)' in: \(outcome.errors)")
        }
        #expect(!outcome.errors.contains("Fatal error"), "\(outcome.errors)")
        if isDirectory(job.saveDirectory) {
            let left = try FileManager.default.subpathsOfDirectory(atPath: job.saveDirectory)
            let own = left.filter { $0.hasPrefix(".sae-extract") }
            #expect(left.count { $0 != "run.json" } == own.count)
            // The failed run must leave no state files that would affect the next run.
            for ending in [".partial", ".journal", ".receipts"] {
                #expect(!own.contains { $0.hasSuffix(ending) }, "\(own)")
            }
        }
    }

    @Test func thereAreManyAndTheyDiffer() {
        let all =
            Self.checkpoints + Self.tokenizers + Self.corpora + Self.saes + Self.flags + Self.system
            + Self.otherFiles
        #expect(all.count >= 40)
        #expect(Set(all.map(\.name)).count == all.count)
    }
}
