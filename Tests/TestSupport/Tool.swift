// Runs the built program as a user does.

import Foundation

/// Runs the built `sae-extract`, and gives arguments for jobs on the fixture.
package struct Tool {
    /// The path of the built program. It is in the test bundle's folder or in a folder above it.
    package static let path: String = {
        let arguments = ProcessInfo.processInfo.arguments
        let bundle = arguments.first { $0.hasSuffix(".xctest") } ?? arguments[0]
        var folder = URL(fileURLWithPath: bundle).deletingLastPathComponent()
        // If the bundle is a folder, the program is in a folder above it.
        while !FileManager.default.isExecutableFile(atPath: folder.path + "/sae-extract"),
            folder.path != "/"
        {
            folder.deleteLastPathComponent()
        }
        return folder.path + "/sae-extract"
    }()

    /// Whether tests can limit the address space and file sizes of the program. False under a sanitizer, which
    /// reserves terabytes of address space (scripts/checks/sanitizers).
    package static let hasLimits = ["ASAN_OPTIONS", "TSAN_OPTIONS"].allSatisfy {
        ProcessInfo.processInfo.environment[$0] == nil
    }

    /// Runs the program with `arguments` and waits until it ends. `environment` has changes to `Tool.environment`,
    /// and a nil value removes a variable. `launcher` is a command that starts the program (see Launchers.swift).
    package static func run(
        _ arguments: [String], environment: [String: String?] = [:], launcher: [String] = []
    ) throws -> TestCommand.Outcome {
        try TestCommand.run(
            launcher + [path] + arguments, environment: Tool.environment(environment))
    }

    /// Starts the program and returns at once. `setUp` can redirect the standard streams. The other parameters are
    /// those of `run`.
    package static func start(
        _ arguments: [String], environment: [String: String?] = [:], launcher: [String] = [],
        _ setUp: (Process) -> Void = { _ in }
    ) throws -> RunningCommand {
        try RunningCommand(launcher + [path] + arguments) {
            $0.environment = Tool.environment(environment)
            setUp($0)
        }
    }

    /// Returns the environment of this process with `changes`. Variables of the program, schedulers, the Hub and
    /// proxies are left out. The Hub's address does not answer and its cache does not exist. So no test uses files
    /// that a machine has downloaded.
    package static func environment(_ changes: [String: String?]) -> [String: String] {
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

    /// Returns the arguments of the main job on the tiny fixture, whose outputs are `Fixtures/tiny/expected`.
    package static func tinyArguments(saveDirectory: String, batchSize: String = "4") -> [String] {
        let tiny = TestData.tiny
        return [
            "--layers", "0", "1", "2", "3", "--model", "google/gemma-2-2b",
            "--model_path", tiny + "/model", "--data_path", tiny + "/authormix.jsonl",
            "--sae_dir", tiny + "/sae", "--n_docs_per_author", "6", "--batch_size", batchSize,
            "--save_dir", saveDirectory,
        ]
    }

    /// Returns the arguments of a job on the corpus file `corpus`, with `layers` of the tiny model.
    package static func arguments(corpus: String, layers: [Int], saveDirectory: String) -> [String]
    {
        let tiny = TestData.tiny
        return ["--layers"] + layers.map { "\($0)" } + [
            "--model_path", tiny + "/model", "--sae_dir", tiny + "/sae", "--data_path", corpus,
            "--n_docs_per_author", "100000", "--save_dir", saveDirectory,
        ]
    }

    /// Returns the output files in `directory`, as bytes by file name. Leaves out run.json and `.sae-extract`.
    package static func results(in directory: String) throws -> [String: [UInt8]] {
        let names = try FileManager.default.contentsOfDirectory(atPath: directory).filter {
            $0 != "run.json" && $0 != ".sae-extract"
        }
        return Dictionary(
            uniqueKeysWithValues: try names.map { ($0, try TestData.bytes("\(directory)/\($0)")) })
    }

    /// Returns the arguments of the second job on the tiny fixture, whose outputs are `Fixtures/tiny/expected-alt`.
    package static func alternativeArguments(saveDirectory: String) -> [String] {
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
