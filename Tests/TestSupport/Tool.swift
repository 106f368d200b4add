// The real binary, from outside.

import Foundation

/// Runs the built `sae-extract`.
public struct Tool {
    /// What a run left.
    public struct Outcome {
        /// The exit code, or minus the signal that ended the process.
        public let status: Int32
        /// Standard output.
        public let output: String
        /// Standard error.
        public let errors: String
    }

    /// The binary beside the test bundle: the one that was built with these tests.
    public static let path: String = {
        let arguments = ProcessInfo.processInfo.arguments
        let bundle = arguments.first { $0.hasSuffix(".xctest") } ?? arguments[0]
        var folder = URL(fileURLWithPath: bundle).deletingLastPathComponent()
        // Where the bundle is a folder, the binary lies above it.
        while !FileManager.default.isExecutableFile(atPath: folder.path + "/sae-extract"),
            folder.path != "/"
        {
            folder.deleteLastPathComponent()
        }
        return folder.path + "/sae-extract"
    }()

    /// Whether address space and sizes of files can be limited: not with a sanitizer (scripts/check-sanitizers), which takes
    /// terabytes of addresses.
    public static let hasLimits = ["ASAN_OPTIONS", "TSAN_OPTIONS"].allSatisfy {
        ProcessInfo.processInfo.environment[$0] == nil
    }

    /// Runs with `arguments`, `environment` added to or (nil) taken from this process' own. `launcher` is a
    /// command put before the binary.
    public static func run(
        _ arguments: [String], environment: [String: String?] = [:], launcher: [String] = []
    ) throws -> Outcome {
        let process = Process()
        let command = launcher + [path] + arguments
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = Array(command.dropFirst())
        process.environment = Tool.environment(environment)
        let (out, err) = (Pipe(), Pipe())
        process.standardOutput = out
        process.standardError = err
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let watchdog = Watchdog(process)
        defer { watchdog.stop() }
        // Read one pipe beside the other, so that neither fills up.
        nonisolated(unsafe) var errorData = Data()
        let reading = DispatchGroup()
        DispatchQueue.global().async(group: reading) {
            errorData = err.fileHandleForReading.readDataToEndOfFile()
        }
        let output = out.fileHandleForReading.readDataToEndOfFile()
        reading.wait()
        process.waitUntilExit()
        let signalled = process.terminationReason == .uncaughtSignal
        return Outcome(
            status: signalled ? -process.terminationStatus : process.terminationStatus,
            output: String(decoding: output, as: UTF8.self),
            errors: String(decoding: errorData, as: UTF8.self))
    }

    /// This process' environment without the program's own variables, a scheduler's and the Hub's, with `changes`. The
    /// Hub is one that does not answer, and its cache is nowhere: no test depends on what a machine has downloaded.
    public static func environment(_ changes: [String: String?]) -> [String: String] {
        let foreign = [
            "SAE_EXTRACT_", "SLURM_", "OMPI_", "PMI", "MV2_", "PALS_", "FLUX_", "JSM_", "HF_",
            "HUGGING", "TRANSFORMERS_", "http_proxy",
            "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy",
        ]
        var variables = ProcessInfo.processInfo.environment.filter { name, _ in
            !foreign.contains(where: name.hasPrefix) && !name.hasSuffix("RANK")
                && !name.hasSuffix("WORLD_SIZE")
        }
        variables["HF_ENDPOINT"] = "http://127.0.0.1:9"
        variables["HF_HOME"] = "/nowhere/huggingface"
        for (name, value) in changes { variables[name] = value }
        return variables
    }

    /// The main job on the tiny fixture, as `Fixtures/tiny/expected` was made.
    public static func tinyArguments(saveDirectory: String, batchSize: String = "4") -> [String] {
        let tiny = TestData.tiny
        return [
            "--layers", "0", "1", "2", "3", "--model", "google/gemma-2-2b",
            "--model_path", tiny + "/model", "--data_path", tiny + "/authormix.jsonl",
            "--sae_dir", tiny + "/sae", "--n_docs_per_author", "6", "--batch_size", batchSize,
            "--save_dir", saveDirectory,
        ]
    }

    /// A job on a corpus of its own: `layers` of the tiny model.
    public static func arguments(corpus: String, layers: [Int], saveDirectory: String) -> [String] {
        let tiny = TestData.tiny
        return ["--layers"] + layers.map { "\($0)" } + [
            "--model_path", tiny + "/model", "--sae_dir", tiny + "/sae", "--data_path", corpus,
            "--n_docs_per_author", "100000", "--save_dir", saveDirectory,
        ]
    }

    /// Every byte of every result in `directory`, by name: all files but the manifest and our own folder.
    public static func results(in directory: String) throws -> [String: [UInt8]] {
        let names = try FileManager.default.contentsOfDirectory(atPath: directory).filter {
            $0 != "run.json" && $0 != ".sae-extract"
        }
        return Dictionary(
            uniqueKeysWithValues: try names.map { ($0, try TestData.bytes("\(directory)/\($0)")) })
    }

    /// The second job on the tiny fixture, as `Fixtures/tiny/expected-alt` was made.
    public static func alternativeArguments(saveDirectory: String) -> [String] {
        let tiny = TestData.tiny
        return [
            "--layers", "2", "--model", "google/gemma-2-9b", "--model_path", tiny + "/model-single",
            "--data_path", tiny + "/authormix.jsonl", "--sae_dir", tiny + "/sae-lens",
            "--target_l0", "30", "--min_length_doc", "20", "--n_docs", "13",
            "--exclude_authors", "harbour", "quarry works", "--batch_size", "3",
            "--save_dir", saveDirectory,
        ]
    }
}
