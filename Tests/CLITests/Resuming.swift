// Helpers of the tests of interrupted runs.

import Foundation
import TestSupport
import Testing

/// Tests with jobs on the corpus `corpus` (40 documents, 20 batches) that write their results to folders in `folder`.
protocol Resuming {
    var folder: TemporaryFolder { get }
    var corpus: String { get }
}

extension Resuming {
    func job(_ name: String, layers: [Int] = [1], _ extra: [String] = []) -> [String] {
        Tool.arguments(corpus: corpus, layers: layers, saveDirectory: folder.file(name)) + extra
    }

    @discardableResult
    func run(
        _ arguments: [String], exits status: Int32 = 0, environment: [String: String?] = [:],
        launcher: [String] = []
    ) throws -> Tool.Outcome {
        let outcome = try Tool.run(
            arguments + ["--log_level", "trace"], environment: environment, launcher: launcher)
        #expect(outcome.status == status, "\(outcome.errors)")
        return outcome
    }

    func results(_ name: String) throws -> [String: [UInt8]] {
        try Tool.results(in: folder.file(name))
    }

    func computed(_ outcome: Tool.Outcome) -> Int {
        outcome.errors.components(separatedBy: #": {"batch""#).count - 1
    }

    /// Returns the paths of all files in the `.sae-extract` of `name` that end in `ending`.
    func own(_ ending: String, in name: String = "out") throws -> [String] {
        let root = folder.file(name + "/.sae-extract")
        return try FileManager.default.subpathsOfDirectory(atPath: root).filter {
            $0.hasSuffix(ending)
        }.map { "\(root)/\($0)" }
    }

    /// Starts a run and stops it when about half of its batches are in journals.
    func stopHalfway(_ arguments: [String]) throws {
        let tool = try RunningTool(arguments)
        #expect(tool.waitForBatches(10))
        tool.send(SIGTERM)
        #expect(tool.wait() == 75, "\(tool.log)")
    }
}

/// The library `scripts/fakes/fault-shim.c`, which makes system calls fail.
enum FaultShim {
    /// Builds the library. Returns its path, for `LD_PRELOAD`.
    static func build(in folder: TemporaryFolder) throws -> String {
        let library = folder.file("fault-shim.so")
        let compiler = Process()
        compiler.executableURL = URL(fileURLWithPath: "/bin/sh")
        compiler.arguments = [
            "-c", "$(command -v cc || command -v clang) -shared -fPIC -o \"$1\" \"$2\" -ldl", "sh",
            library, TestData.packageRoot + "/scripts/fakes/fault-shim.c",
        ]
        try compiler.run()
        compiler.waitUntilExit()
        try #require(compiler.terminationStatus == 0)
        return library
    }
}
