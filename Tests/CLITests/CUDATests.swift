// Tests of the real binary with `--device cuda`, on the stand-in for NVIDIA's libraries.

import ByteJSON
import Crypto
import Files
import Foundation
import TestSupport
import Testing

struct CUDATests: UsingFolder {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// Returns the arguments of the fixture's main job.
    func tiny(_ name: String, batchSize: String = "4") -> [String] {
        Tool.tinyArguments(saveDirectory: folder.file(name), batchSize: batchSize)
    }

    /// Returns the arguments of a small job: `documents` documents in all, in batches of one document.
    func small(_ name: String, documents: Int = 8) -> [String] {
        let tiny = TestData.tiny
        return [
            "--layers", "1", "--model", "google/gemma-2-2b", "--model_path", tiny + "/model",
            "--sae_dir", tiny + "/sae", "--data_path", tiny + "/authormix.jsonl",
            "--n_docs", "\(documents)", "--batch_size", "1", "--save_dir", folder.file(name),
        ]
    }

    @discardableResult
    func run(
        _ arguments: [String], exits status: Int32 = 0, _ changes: [String: String] = [:],
        device: String = "cuda", _ place: SourceLocation = #_sourceLocation
    ) throws -> TestCommand.Outcome {
        try Tool.run(
            arguments + ["--device", device], exits: status,
            environment: FakeCUDA.environment(changes), place)
    }

    // MARK: Parity

    @Test func mainJobMatchesTheOracleAndTheCPU() throws {
        try run(tiny("cuda"))
        let oracle = try OutputComparison(
            reference: TestData.tiny + "/expected", candidate: folder.file("cuda"))
        #expect(oracle.problems == [])
        #expect(oracle.files == 80 && oracle.bits == 9_046_800)
        #expect(oracle.widestMargin <= OutputComparison.roundingMargin)
        try run(tiny("cpu"), device: "cpu")
        let cpu = try OutputComparison(
            reference: folder.file("cpu"), candidate: folder.file("cuda"),
            margins: TestData.tiny + "/expected/margins")
        #expect(cpu.problems == [])
        #expect(cpu.widestMargin <= OutputComparison.roundingMargin)

        let entry = try lastRecordedRun("cuda")
        #expect(entry["device"]?.string == "cuda" && entry["dtype"]?.string == "float32")
        #expect(entry["reproducible"]?.bool == true)
        #expect(
            entry["products"]?.array?.first?.string?.contains("0 of 41 matrices), else 3") == true)
        #expect(
            entry["kernels"]?.array?.first?.string
                == "Fake GPU 0 (9.0), driver 13.0, cudart 12.9, cuBLAS 12.9.0")
    }

    @Test func bfloat16CheckpointsAreHeldInOnePart() throws {
        try run(Tool.alternativeArguments(saveDirectory: folder.file("out")))
        let comparison = try OutputComparison(
            reference: TestData.tiny + "/expected-alt", candidate: folder.file("out"))
        #expect(comparison.problems == [])
        #expect(comparison.files == 21)
        #expect(comparison.widestMargin <= OutputComparison.roundingMargin)
        // The 29 matrices of the model are bfloat16. The other 3 matrices, the encoders, are not.
        #expect(
            try lastRecordedRun("out")["products"]?.array?.first?.string?
                .contains("(29 of 32 matrices)") == true)
    }

    @Test func bfloat16ProductsAreNearButOthers() throws {
        try run(small("16") + ["--dtype", "bfloat16"])
        try run(small("32"))
        let comparison = try OutputComparison(
            reference: folder.file("32"), candidate: folder.file("16"))
        #expect(comparison.differingBits > 0)
        #expect(comparison.differingBits < comparison.bits / 500)
        // A run with another `--dtype` must be refused in this folder.
        let other = try run(small("16"), exits: 78)
        #expect(other.errors.contains("--dtype: bfloat16 in the other run, float32 in this run"))
    }

    @Test func orderOfThreadsChangesNoByte() throws {
        try run(small("0", documents: 3))
        for order in ["1", "7"] {
            try run(small(order, documents: 3), ["FAKE_CUDA_ORDER": order])
            #expect(try results(order) == results("0"), "order \(order)")
        }
    }

    /// Checks that a deleted file is made again with the same bytes, and that a run with fewer hooks makes the same
    /// file.
    @Test func aFileThatIsMadeAgainHasTheSameBytes() throws {
        let job = small("out", documents: 4) + ["--activation_values", "raw"]
        try run(job)
        let whole = try results("out")
        let name = try #require(whole.keys.first { $0.contains("res__activations") })
        try FileManager.default.removeItem(atPath: folder.file("out/\(name)"))
        try run(job)
        #expect(try results("out") == whole)
        try run(
            small("res", documents: 4) + ["--activation_values", "raw", "--layer_types", "res"])
        #expect(try results("res")[name] == whole[name])
    }

    /// Compares two modes of the stand-in. By default, it does work only when the program waits for the work. With
    /// FAKE_CUDA_EAGER, it does work at once.
    @Test func lateAndEagerStreamsAgree() throws {
        try run(small("late", documents: 3))
        try run(small("eager", documents: 3), ["FAKE_CUDA_EAGER": "1"])
        #expect(try results("late") == results("eager"))
    }

    /// Checks a batch in which more features fire than the device's result buffer can hold. The batch must be
    /// computed again with a larger buffer.
    @Test func resultsBeyondTheirRoomAreComputedAgain() throws {
        var model = SyntheticModel()
        model.dSAE = 2000
        try model.write(to: folder)
        try folder.copy(TestData.tiny + "/model/tokenizer.json", "model/tokenizer.json")
        func job(_ name: String) -> [String] {
            [
                "--layers", "0", "1", "--model", folder.file("model"),
                "--sae_dir", folder.file("sae"),
                "--data_path", TestData.tiny + "/authormix.jsonl", "--n_docs", "2",
                "--save_dir", folder.file(name),
            ]
        }
        // Each check of a tap logs " explains ". Although the batch is computed again, each of the 6 taps must be
        // checked once.
        let outcome = try run(job("cuda"))
        #expect(
            outcome.errors.components(separatedBy: " explains ").count == 7, "each tap is checked")
        try run(job("cpu"), device: "cpu")
        let comparison = try OutputComparison(
            reference: folder.file("cpu"), candidate: folder.file("cuda"))
        #expect(comparison.problems == [])
    }

    // MARK: Several devices

    @Test func oneTwoAndThreeDevicesGiveTheSameBytes() throws {
        try run(small("1"))
        let expected = try results("1")
        for devices in ["2", "3"] {
            let log = folder.file("log-" + devices)
            try run(small(devices), ["FAKE_CUDA_DEVICES": devices, "FAKE_CUDA_LOG": log])
            #expect(try results(devices) == expected, "\(devices) devices")
            #expect(try lastRecordedRun(devices)["devices"]?.array?.count == Int(devices))
        }
        // This run has one worker, on the second of three devices.
        try run(
            small("second") + ["--workers", "1"],
            ["FAKE_CUDA_DEVICES": "3", "CUDA_VISIBLE_DEVICES": "1"])
        #expect(try results("second") == expected)
        #expect(
            try lastRecordedRun("second")["kernels"]?.array?.first?.string?.hasPrefix("Fake GPU 1")
                == true)
        let outcome = try run(
            small("many") + ["--workers", "4"], exits: 64, ["FAKE_CUDA_DEVICES": "3"])
        #expect(outcome.errors.contains("--workers: 4 are more than the 3 CUDA devices"))
    }

    @Test func kindsOfDevicesDoNotMix() throws {
        try run(small("out"), device: "cpu")
        let outcome = try run(small("out"), exits: 78)
        #expect(
            outcome.errors.contains(
                "kind of device (--device): cpu in the other run, cuda in this run"))
    }

    @Test func withoutADriverAutoIsTheCPU() throws {
        let nowhere = ["SAE_EXTRACT_CUDA_DRIVER_LIB": "/nowhere/libcuda.so.1"]
        try run(small("auto", documents: 3), nowhere, device: "auto")
        #expect(try lastRecordedRun("auto")["device"]?.string == "cpu")
        let outcome = try run(small("cuda"), exits: 69, nowhere)
        #expect(outcome.errors.contains("/nowhere/libcuda.so.1: does not exist"))
        #expect(outcome.errors.contains("--device cpu"))
        try run(small("device", documents: 3), device: "auto")
        #expect(try lastRecordedRun("device")["device"]?.string == "cuda")
    }

    // MARK: PTX

    /// Checks that the committed PTX was built from the committed source, whose SHA-256 is in the first line of the
    /// PTX.
    @Test func kernelsAreMadeOfTheirSource() throws {
        let sources = TestData.packageRoot + "/Sources/C/CCUDA/"
        var hash = SHA256()
        for name in ["kernels.cu", "prelude.h"] {
            hash.update(data: try TestData.bytes(sources + name))
        }
        let digest = hexadecimal(hash.finalize())
        let ptx = try TestData.text(sources + "kernels.ptx")
        #expect(
            ptx.prefix { $0 != "\n" }.hasSuffix(digest),
            "kernels.ptx is of another source: run scripts/make/kernels and commit what it writes")
        #expect(ptx.contains(".version 7.8\n.target sm_80\n"))
    }
}
