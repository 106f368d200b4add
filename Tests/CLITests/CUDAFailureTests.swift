// Tests of NVIDIA libraries and devices that are missing, cannot be used, or fail during a run.

import ByteJSON
import Foundation
import TestSupport
import Testing

extension CUDATests {
    // MARK: Libraries

    @Test(arguments: [
        // libm.so.6 can be loaded, but has none of the needed functions.
        ("SAE_EXTRACT_CUDART_LIB", "libm.so.6", "has no function cudaRuntimeGetVersion"),
        ("SAE_EXTRACT_CUBLAS_LIB", "libm.so.6", "has no function cublasCreate_v2"),
        ("SAE_EXTRACT_CUDA_DRIVER_LIB", "libm.so.6", "has no function cuInit"),
        ("SAE_EXTRACT_CUDART_LIB", "/nowhere/libcudart.so", "libcudart was not found"),
        ("SAE_EXTRACT_CUBLAS_LIB", "/nowhere/libcublas.so", "libcublas was not found"),
        ("FAKE_CUBLAS_NOINIT", "1", "CUBLAS_STATUS_NOT_INITIALIZED"),
    ])
    func librariesThatDoNotServe(variable: String, value: String, message: String) throws {
        let outcome = try run(small("out", documents: 2), exits: 69, [variable: value])
        #expect(outcome.errors.contains(message))
        #expect(outcome.errors.contains("--device cpu"))
        if value.hasPrefix("/") {
            #expect(outcome.errors.contains(value + ": does not exist"))
            #expect(outcome.errors.contains(variable))
        }
    }

    // MARK: Devices

    @Test(arguments: [
        ("FAKE_CUDA_DRIVER", "11040", "the driver is too old for libcudart"),
        ("FAKE_CUDA_CC", "75", "compute capability 7.5, but the kernels need 8.0 or later"),
        ("FAKE_CUDA_INIT", "804", "of different versions: restart the machine"),
        ("FAKE_CUDA_INIT", "999", "nvidia_uvm"),
        // The stand-in has no name for error 802, so the program must know the name itself.
        ("FAKE_CUDA_INIT", "802", "CUDA_ERROR_SYSTEM_NOT_READY (802), system not yet initialized"),
        ("FAKE_CUDA_INIT", "802", "systemctl status nvidia-fabricmanager"),
        ("FAKE_CUDA_INIT", "803", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)"),
        ("FAKE_CUDA_INIT", "804", "cuda-compat"), ("FAKE_CUDA_INIT", "304", "/dev/nvidia*"),
        ("FAKE_CUDA_INIT", "3", "the driver or the device is not ready"),
        ("FAKE_CUDA_INIT", "805", "nvidia-cuda-mps-control"),
        ("FAKE_CUDA_INIT", "4711", "an error without a name (4711)"),
        ("FAKE_CUDA_INIT", "4711", "please report this number"),
        // Error 46: another process uses the device in exclusive compute mode.
        ("FAKE_CUDA_FAIL", "cudaSetDevice:1:46", "start one task per device"),
        ("FAKE_CUDA_FAIL", "cudaSetDevice:1:46", "MPS"),
        ("FAKE_CUDA_FAIL", "cudaSetDevice:1:101", "CUDA_VISIBLE_DEVICES names a device"),
        ("FAKE_CUDA_FAIL", "cudaSetDevice:1:214", "ECC"),
        ("CUDA_VISIBLE_DEVICES", "", "CUDA_VISIBLE_DEVICES is ''"),
        ("CUDA_VISIBLE_DEVICES", "7", "CUDA_VISIBLE_DEVICES is '7'"),
        ("FAKE_CUDA_CRASH", "1", "crashed in the driver"),
        // This memory is two thirds of the bytes that the model, the SAEs and a batch of one document need.
        ("FAKE_CUDA_MEM", "68000000", "the device's memory is too small"),
    ])
    func devicesThatDoNotServe(variable: String, value: String, message: String) throws {
        let outcome = try run(small("out", documents: 2), exits: 69, [variable: value])
        #expect(outcome.errors.contains(message), "\(outcome.errors)")
        #expect(outcome.errors.contains("--device cpu") || outcome.errors.contains("nvidia-smi"))
        // No batch was computed, so there is nothing "to continue". But the general advice for error 214 has these
        // words.
        #expect(
            value == "cudaSetDevice:1:214" || !outcome.errors.contains("to continue"),
            "\(outcome.errors)")
    }

    @Test func aDriverTooOldForTheKernels() throws {
        let outcome = try run(
            small("out", documents: 2), exits: 69,
            ["FAKE_CUDA_DRIVER": "11070", "FAKE_CUDA_RUNTIME": "11080"])
        #expect(outcome.errors.contains("the driver (CUDA 11.7) does not accept the kernels"))
        #expect(outcome.errors.contains("Unsupported .version 7.8; current version is '7.7'"))
        #expect(outcome.errors.contains("R520") && outcome.errors.contains("--device cpu"))
    }

    @Test func aDriverThatDoesNotAnswerIsNotWaitedForForever() throws {
        let outcome = try run(
            small("out"), exits: 69, ["FAKE_CUDA_HANG": "1", "SAE_EXTRACT_PROBE_SECONDS": "1"])
        #expect(outcome.errors.contains("has not answered for 1 seconds"))
    }

    /// Checks that `__devices`, the child process that asks NVIDIA's driver, has no Hub token in its environment.
    @Test func theProcessThatIsAskedHasNoToken() throws {
        let script = """
            "$@" >/dev/null 2>&1 &
            for attempt in {1..300}; do
                for child in $(cat /proc/$!/task/*/children 2>/dev/null); do
                    if grep -aq __devices /proc/$child/cmdline; then
                        tr '\\0' '\\n' </proc/$child/environ
                        break 2
                    fi
                done
                sleep 0.05
            done
            wait
            """
        let outcome = try Tool.run(
            ["devices"],
            environment: FakeCUDA.environment([
                "FAKE_CUDA_HANG": "1", "SAE_EXTRACT_PROBE_SECONDS": "3", "HF_TOKEN": "hf_one",
                "HUGGING_FACE_HUB_TOKEN": "hf_two", "HF_TOKEN_PATH": "/hf_three",
            ]), launcher: .shell(script))
        #expect(outcome.output.contains("FAKE_CUDA_HANG=1"), "\(outcome)")
        #expect(!outcome.output.contains("hf_"), "\(outcome.output)")
    }

    // MARK: `devices`

    private func devices(_ changes: [String: String] = [:]) throws -> TestCommand.Outcome {
        try Tool.run(["devices"], environment: FakeCUDA.environment(changes))
    }

    @Test func devicesAreListed() throws {
        let outcome = try devices(["FAKE_CUDA_DEVICES": "3", "CUDA_VISIBLE_DEVICES": "2,0"])
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(outcome.output.contains("libcublas  12.9.0  \(FakeCUDA.path)"))
        let lines = outcome.output.split(separator: "\n").filter { $0.contains("Fake GPU") }
        #expect(lines.count == 2)
        #expect(lines[0].contains("2  Fake GPU 2  1024 MiB  9.0"))
        #expect(lines[1].contains("0  Fake GPU 0  1024 MiB  9.0"))
        #expect(outcome.output.contains("2 workers, one per device"))

        let slices = try devices([
            "FAKE_CUDA_MIG": "3",
            "CUDA_VISIBLE_DEVICES":
                "MIG-00fa0002-0000-0000-0000-000000000000,MIG-00fa0000-0000-0000-0000-000000000000",
        ])
        #expect(slices.status == 0, "\(slices.errors)")
        #expect(slices.output.split(separator: "\n").count { $0.contains("MIG-00fa000") } == 2)
    }

    @Test func devicesSaysWhatIsMissing() throws {
        let none = try Tool.run(
            ["devices"], exits: 69,
            environment: ["SAE_EXTRACT_CUDA_DRIVER_LIB": "/nowhere/libcuda.so.1"])
        #expect(none.output.contains("libcuda  ") && none.output.contains("not found"))
        #expect(none.errors.contains("Tried: /nowhere/libcuda.so.1: does not exist"))
        let blas = try devices(["SAE_EXTRACT_CUBLAS_LIB": "/nowhere/libcublas.so"])
        #expect(blas.status == 69)
        #expect(blas.output.contains(FakeCUDA.path) && blas.errors.contains("nvidia-cublas-cu12"))
    }

    // MARK: Failures during a run

    /// Checks a device without memory for a batch of 15 documents. The batch must be computed in parts.
    @Test func outOfMemoryHalvesTheBatch() throws {
        func job(_ name: String) -> [String] {
            tiny(name, batchSize: "15") + [
                "--n_docs_per_author", "15", "--include_authors", "harbour", "quarry works",
            ]
        }
        try run(job("whole"))
        // This memory is enough for the weights and some documents, but not for 15 documents.
        let outcome = try run(job("parts"), ["FAKE_CUDA_MEM": "83000000"])
        #expect(
            outcome.errors.contains("batches are computed in 2 parts from here on"),
            "\(outcome.errors)")
        let comparison = try OutputComparison(
            reference: folder.file("whole"), candidate: folder.file("parts"))
        #expect(comparison.problems == [])
        #expect(try lastRecordedRun("parts")["reproducible"]?.bool == false)
        let divided = try lastRecordedRun("parts")["authors"]?.array?.contains {
            $0.object?["divided_batches"]?.array?.isEmpty == false
        }
        #expect(divided == true)
    }

    /// Checks a kernel that fails, and a device that is lost. The same command must then complete the run, with the
    /// same bytes as an uninterrupted run.
    @Test(arguments: [
        ("cuLaunchKernel:300:719", "CUDA_ERROR_LAUNCH_FAILED (719)"),
        ("cudaEventSynchronize:20:999", "(999)"),
    ])
    func aLostDeviceIsReportedAndTheRunResumes(failure: String, message: String) throws {
        try run(small("whole"))
        let outcome = try run(small("out"), exits: 69, ["FAKE_CUDA_FAIL": failure])
        #expect(outcome.errors.contains(message), "\(outcome.errors)")
        #expect(outcome.errors.contains("run the same command again to continue"))
        try run(small("out"))
        #expect(try results("out") == results("whole"))
    }

    @Test func oneOfTwoDevicesIsLost() throws {
        try run(small("whole"))
        let outcome = try run(
            small("out"), exits: 1,
            [
                "FAKE_CUDA_DEVICES": "2", "FAKE_CUDA_FAIL": "cuLaunchKernel:200:719",
                "FAKE_CUDA_FAIL_DEVICE": "1",
            ])
        #expect(outcome.errors.contains("rank 1 (cuda 1, Fake GPU 1)"), "\(outcome.errors)")
        #expect(outcome.errors.contains("the other workers go on"))
        try run(small("out"), ["FAKE_CUDA_DEVICES": "2"])
        #expect(try results("out") == results("whole"))
    }

    /// Checks a run that SIGTERM stops while batches are on the device. The same command must then complete the run,
    /// with the same bytes as an uninterrupted run.
    @Test func stoppingKeepsWhatIsUnderWay() throws {
        try run(small("whole"))
        let tool = try RunningTool(
            small("out") + ["--device", "cuda", "--log_level", "trace"],
            environment: FakeCUDA.environment())
        #expect(tool.waitForBatches(3))
        tool.send(SIGTERM)
        #expect(tool.wait() == 75, "\(tool.log)")
        try run(small("out"))
        #expect(try results("out") == results("whole"))
    }
}
