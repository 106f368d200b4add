// Helpers of the tests that interrupt runs.

import Foundation
import TestSupport
import Testing

/// Tests with jobs on `corpus`, which has 40 documents in 20 batches.
protocol Resuming: UsingFolder {
    var corpus: String { get }
    init(folder: TemporaryFolder, corpus: String)
}

extension Resuming {
    /// Creates the folder and the corpus for one test.
    init() throws {
        let folder = try TemporaryFolder()
        let corpus = try folder.write(SyntheticCorpus.jsonl(documents: 40), "c.jsonl")
        self.init(folder: folder, corpus: corpus)
    }

    func job(_ name: String, layers: [Int] = [1], _ extra: [String] = []) -> [String] {
        Tool.arguments(corpus: corpus, layers: layers, saveDirectory: folder.file(name)) + extra
    }

    /// Runs the program at log level trace, so that `computed` can count the batches. Checks the exit code.
    @discardableResult
    func run(
        _ arguments: [String], exits status: Int32 = 0, environment: [String: String?] = [:],
        launcher: [String] = [], _ place: SourceLocation = #_sourceLocation
    ) throws -> TestCommand.Outcome {
        try Tool.run(
            arguments + ["--log_level", "trace"], exits: status, environment: environment,
            launcher: launcher, place)
    }

    func computed(_ outcome: TestCommand.Outcome) -> Int {
        outcome.errors.components(separatedBy: #": {"batch""#).count - 1
    }

    /// Returns the paths of all files in the job's `.sae-extract` that end in `ending`.
    func own(_ ending: String, in name: String = "out") throws -> [String] {
        let root = folder.file(name + "/.sae-extract")
        return try FileManager.default.subpathsOfDirectory(atPath: root).filter {
            $0.hasSuffix(ending)
        }.map { "\(root)/\($0)" }
    }

    /// Starts a run, and stops it by SIGTERM when 10 of its 20 batches are finished.
    func stopHalfway(_ arguments: [String]) throws {
        let tool = try RunningTool(arguments)
        #expect(tool.waitForBatches(10))
        tool.send(SIGTERM)
        #expect(tool.wait() == 75, "\(tool.log)")
    }
}
