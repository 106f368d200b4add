// Tests of `--dtype bfloat16` and of OpenBLAS kernel sets on the CPU, with the real binary.

import ByteJSON
import CPUBackend
import Foundation
import Tensors
import TestSupport
import Testing

@testable import sae_extract

struct PrecisionTests: Resuming {
    let folder: TemporaryFolder
    let corpus: String

    private func tiny(_ name: String, batchSize: String = "4") -> [String] {
        Tool.tinyArguments(saveDirectory: folder.file(name), batchSize: batchSize)
            + ["--device", "cpu"]
    }

    /// Returns the mean absolute difference between the cross-entropies of two jobs, over all tokens.
    private func meanMetricError(_ a: String, _ b: String) throws -> Float {
        var (sum, count) = (Float(0), 0)
        for name in try results(a).keys.sorted() where name.contains("cross_entropy") {
            let one = try OutputComparison.Metric(folder.file("\(a)/\(name)")).values
            let other = try OutputComparison.Metric(folder.file("\(b)/\(name)")).values
            // A value 0 is padding and does not count.
            for (x, y) in zip(one, other) where x != 0 {
                sum += abs(Float(x) - Float(y))
                count += 1
            }
        }
        return sum / Float(max(count, 1))
    }

    /// Checks that bfloat16 results are near those of float32 but not equal. If the processor has no bfloat16
    /// instructions, a warning must appear.
    @Test func bfloat16IsNotFloat32() throws {
        let outcome = try run(tiny("16") + ["--dtype", "bfloat16"])
        try run(tiny("32"))
        #expect(outcome.errors.contains(", bfloat16 by "))
        #expect(
            outcome.errors.contains("warning: --dtype bfloat16: this processor has no instructions")
                == !OpenBLASBackend.multipliesBFloat16)
        let entry = try lastRecordedRun("16")
        #expect(entry["dtype"]?.string == "bfloat16")
        let products = try #require(entry["products"]?.array?.first?.string)
        #expect(products.hasPrefix("bfloat16 by "))
        #expect(try lastRecordedRun("32")["products"] == .array([.string("float32")]))

        let comparison = try OutputComparison(
            reference: folder.file("32"), candidate: folder.file("16"))
        // The upper bounds are PyTorch's differences between bfloat16 and float32 on this job.
        // The lower bounds are 0.1% of the 339,711 bits that are 1, and ten float16 steps.
        #expect(comparison.differingBits > 339 && comparison.differingBits < 34_201)
        let error = try meanMetricError("32", "16")
        #expect(error > 0.01 && error < 0.39)
        // A run with another `--dtype` must be refused in this folder.
        let other = try run(tiny("16"), exits: 78)
        #expect(other.errors.contains("--dtype: bfloat16 in the other run, float32 in this run"))
    }

    /// Checks that the numbers of threads and workers change no byte of bfloat16 results.
    @Test func bfloat16IsTheSameHoweverItIsDivided() throws {
        try run(tiny("1", batchSize: "1") + ["--dtype", "bfloat16", "--threads", "1"])
        let expected = try results("1")
        for more in [["--workers", "3"], ["--threads", "5"], ["--workers", "2"]] {
            try run(
                tiny("2", batchSize: "1") + more + ["--dtype", "bfloat16", "--overwrite"])
            #expect(try results("2") == expected, "\(more)")
        }
    }

    @Test func workersAreToldWhichKernelsToUse() {
        let variable = OpenBLASKernels.variable
        let asked = ChildEnvironment.worker(token: nil, kernels: "SkylakeX")
        #expect(asked[variable] == "SkylakeX" && asked["CUDA_VISIBLE_DEVICES"] == "")
        #expect(ChildEnvironment.worker(token: nil, kernels: nil)[variable] == nil)
        // A worker on a CUDA device does not multiply with OpenBLAS, so it needs no kernel set.
        let device = ChildEnvironment.worker(token: "3", kernels: "SkylakeX")
        #expect(device[variable] == nil && device["CUDA_VISIBLE_DEVICES"] == "3")
    }

    /// Checks that workers use the OpenBLAS kernel set that suits the processor, or the set in the environment.
    @Test func kernelsAreThoseThatSuitTheProcessor() throws {
        let arguments = tiny("out") + ["--n_docs_per_author", "1", "--overwrite"]
        let outcome = try run(arguments, environment: [OpenBLASKernels.variable: nil])
        let used = try lastRecordedRun("out")["kernels"]?.array?.first?.string ?? ""
        let flags =
            try String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
            .split(separator: "\n").first { $0.hasPrefix("flags") } ?? ""
        if flags.contains("avx512vl") {
            #expect(["SkylakeX", "Cooperlake", "SapphireRapids"].contains(where: used.hasSuffix))
        } else {
            #expect(!outcome.errors.contains("OpenBLAS' kernels: "))
        }
        let other = try run(arguments, environment: [OpenBLASKernels.variable: "Nehalem"])
        let named = try lastRecordedRun("out")["kernels"]?.array?.first?.string
        #expect(named?.hasSuffix("Nehalem") == true)
        #expect(!other.errors.contains("OpenBLAS' kernels: "))
    }
}
