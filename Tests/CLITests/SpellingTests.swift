// Tests of lists, home folders and standard input, in the forms in which users write them.

import ArgumentParser
import Files
import Foundation
import Hooks
import Planning
import TestSupport
import Testing

@testable import sae_extract

struct SpellingTests: UsingFolder {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private func options(_ arguments: [String], _ environment: [String: String] = [:]) throws
        -> RunFlags
    {
        try SAEExtract.parse(
            CommandLineArguments.normalized(arguments, environment: environment)
        ).flags
    }

    @Test(arguments: [
        (["5,10,15"], [5, 10, 15]), (["5-8"], [5, 6, 7, 8]), (["0 1"], [0, 1]),
        (["0-3,5"], [0, 1, 2, 3, 5]), (["0,", "1"], [0, 1]), ([" 2 , 3-4 ", "7"], [2, 3, 4, 7]),
        (["3-3"], [3]), (["-1"], [-1]),
    ])
    func layersAreUnderstood(words: [String], layers: [Int]) throws {
        #expect(try options(["--layers"] + words).model.layers == layers)
        let environment = ["SAE_EXTRACT_LAYERS": words.joined(separator: " ")]
        #expect(try options([], environment).model.layers == layers)
    }

    @Test func aMistakeInTheEnvironmentIsCalledThat() throws {
        let error = #expect(throws: (any Error).self) {
            try options([], ["SAE_EXTRACT_LAYERS": "5..8"])
        }
        #expect("\(error!)".hasPrefix("SAE_EXTRACT_LAYERS: '5..8'"))
    }

    @Test func otherListsTakeCommasAndAuthorsDoNot() throws {
        let command = try options([
            "--layers=0,1", "--layer_types", "res,mlp", "--sae_id",
            "res:layer_0/width_16k/average_l0_46,mlp:layer_0/width_16k/average_l0_1",
            "--exclude_authors", "a,b", "c", "--include_authors=d,e",
        ])
        #expect(command.model.layers == [0, 1] && command.model.layerTypes == [.res, .mlp])
        #expect(command.saes.ids.map(\.site) == [.res, .mlp])
        #expect(command.corpus.excluded == ["a,b", "c"] && command.corpus.included == ["d,e"])
    }

    @Test func homeFoldersAreExpandedInEveryPath() throws {
        let home = try #require(ProcessInfo.processInfo.environment["HOME"])
        let options = try options([
            "--layers", "0", "--model", "~/m", "--model_path=~/c", "--sae_dir", "~/s",
            "--data_path", "~/d.jsonl", "--save_dir=~/o",
        ]).options()
        #expect(options.model == home + "/m" && options.modelPath == home + "/c")
        #expect(options.saeDirectory == home + "/s" && options.dataPath == home + "/d.jsonl")
        #expect(options.saveDirectory == home + "/o")
    }

    /// Checks that a run, and the commands that read results, expand `~` in every path.
    @Test func runsFindTheirHome() throws {
        for (name, source) in [
            ("model", "model-single"), ("sae", "sae"), ("c.jsonl", "authormix.jsonl"),
        ] {
            try folder.copy("\(TestData.tiny)/\(source)", name)
        }
        let environment: [String: String?] = [
            "HOME": folder.path, "SAE_EXTRACT_SAVE_DIR": "~/out",
            "SAE_EXTRACT_CUDA_DRIVER_LIB": "~/libcuda.so",
        ]
        try Tool.run(
            [
                "--layers", "0", "--layer_types", "res", "--model", "~/model", "--sae_dir", "~/sae",
                "--data_path=~/c.jsonl", "--n_docs", "2", "--min_length_doc", "1", "--device",
                "cpu",
            ], exits: 0, environment: environment)
        #expect(fileExists(folder.file("out/run.json")))
        for command in ["inspect", "verify", "report"] {
            let outcome = try Tool.run([command, "~/out"], environment: environment)
            #expect(outcome.status == 0, "\(command): \(outcome.errors)")
        }
        let report = try Tool.run(
            ["report", "~/out", "--output", "~/page.html"], environment: environment)
        #expect(report.status == 0 && fileExists(folder.file("page.html")), "\(report.errors)")
        let devices = try Tool.run(["devices"], environment: environment)
        #expect(
            devices.output.contains("\(folder.path)/libcuda.so")
                || devices.errors.contains("\(folder.path)/libcuda.so"),
            "\(devices.output)\(devices.errors)")
    }

    @Test func standardInputIsRead() throws {
        let corpus = TestData.tiny + "/authormix.jsonl"
        func run(_ path: String, _ directory: String, _ shell: String) throws -> TestCommand.Outcome
        {
            try Tool.run(
                Tool.arguments(corpus: path, layers: [0], saveDirectory: folder.file(directory)) + [
                    "--layer_types", "res", "--n_docs_per_author", "1", "--device", "cpu",
                    "--workers", "2",
                ], launcher: .shell(shell))
        }
        let whole = try run(corpus, "a", "exec \"$@\"")
        #expect(whole.status == 0, "\(whole.errors)")
        let piped = try run("-", "b", "cat '\(corpus)' | \"$@\"")
        #expect(piped.status == 0, "\(piped.errors)")
        #expect(try results("a") == results("b"))
        // The same command must continue the run. All results are complete, so it computes nothing.
        let again = try run("-", "b", "\"$@\" <'\(corpus)'")
        #expect(again.status == 0 && again.errors.contains(" 0 tokens computed"), "\(again.errors)")
        let empty = try run("-", "c", "\"$@\" </dev/null")
        #expect(empty.status == 65 && empty.errors.contains("/dev/stdin: the file has no records"))
    }
}
