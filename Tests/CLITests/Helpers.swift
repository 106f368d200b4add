// Helpers of the command-line tests.

import ByteJSON
import Crypto
import Files
import Foundation
import TestSupport
import Testing

/// Checks the exit code of a finished run, and that its standard error contains each of `parts`.
func expect(
    _ outcome: TestCommand.Outcome, exits status: Int32, saying parts: [String] = [],
    _ place: SourceLocation = #_sourceLocation
) {
    #expect(
        outcome.status == status, "\(outcome.errors)\(outcome.output)", sourceLocation: place)
    for part in parts {
        #expect(
            outcome.errors.contains(part), "no '\(part)' in \(outcome.errors)",
            sourceLocation: place)
    }
}

extension Tool {
    /// Runs the program as `Tool.run` does, and checks its exit code.
    @discardableResult
    static func run(
        _ arguments: [String], exits status: Int32, environment: [String: String?] = [:],
        launcher: [String] = [], _ place: SourceLocation = #_sourceLocation
    ) throws -> TestCommand.Outcome {
        let outcome = try Tool.run(arguments, environment: environment, launcher: launcher)
        expect(outcome, exits: status, place)
        return outcome
    }
}

/// Tests that keep all their files in `folder`. Each job writes its results to a subfolder of `folder`.
protocol UsingFolder {
    var folder: TemporaryFolder { get }
}

extension UsingFolder {
    /// Returns the output files of the job `name`, as bytes by file name.
    func results(_ name: String) throws -> [String: [UInt8]] {
        try Tool.results(in: folder.file(name))
    }

    /// Returns the entries in run.json of the job `name`, oldest first.
    func recordedRuns(_ name: String) throws -> [JSONObject] {
        let manifest = try MappedFile(path: folder.file(name + "/run.json")).parsedJSON()
        return try #require(manifest.object?["runs"]?.array).compactMap(\.object)
    }

    /// Returns the newest entry in run.json of the job `name`.
    func lastRecordedRun(_ name: String) throws -> JSONObject {
        try #require(try recordedRuns(name).last)
    }

    /// Runs a bash script in `folder`. Fails if one of its commands fails.
    func shell(_ script: String) throws {
        let outcome = try TestCommand.run(["bash", "-c", "set -e; " + script], in: folder.path)
        try #require(outcome.status == 0, "\(outcome.errors)")
    }

    /// Returns `variables` with the library of `FaultShim`. The variables say which system calls fail.
    func shim(_ variables: [String: String?]) throws -> [String: String?] {
        try FaultShim.environment(variables, folder)
    }

    /// Starts a run that pauses for 3 s at `point` (see scripts/fakes/fault-shim.c). Returns when the pause begins.
    func startPaused(_ arguments: [String], at point: String) throws -> RunningTool {
        let mark = folder.file("struck")
        let tool = try RunningTool(
            arguments, environment: try shim(["FAULT_AT": "\(point):PAUSE:\(mark)"]))
        #expect(tool.wait { _ in fileExists(mark) })
        return tool
    }
}

/// The shared library built from `scripts/fakes/fault-shim.c`, which makes system calls fail.
enum FaultShim {
    /// Builds the library in `folder` if it does not exist. Returns `variables` with the library as LD_PRELOAD.
    static func environment(
        _ variables: [String: String?], _ folder: TemporaryFolder
    ) throws -> [String: String?] {
        let library = folder.file("fault-shim.so")
        if !fileExists(library) {
            try compile(TestData.packageRoot + "/scripts/fakes/fault-shim.c", to: library)
        }
        return variables.merging(["LD_PRELOAD": library]) { $1 }
    }

    /// Compiles a C file to the shared library `library`.
    static func compile(_ source: String, to library: String) throws {
        let outcome = try TestCommand.run([
            "sh", "-c", "$(command -v cc || command -v clang) -shared -fPIC -o \"$1\" \"$2\" -ldl",
            "sh", library, source,
        ])
        try #require(outcome.status == 0, "\(outcome.errors)")
    }
}

/// Returns the SHA-256 of `bytes` in hexadecimal.
func sha256(_ bytes: some DataProtocol) -> String {
    SHA256.hash(data: bytes).map { String(format: "%02x", $0) }.joined()
}
