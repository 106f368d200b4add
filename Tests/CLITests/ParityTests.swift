// Compares the outputs of the real binary with those of the oracle, and outputs of several runs with each other.

import ArrayFiles
import Files
import Foundation
import TestSupport
import Testing

struct ParityTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// The OpenBLAS kernel sets to test: the set that OPENBLAS_CORETYPE names, or else OpenBLAS' choice and Haswell.
    static let kernels: [[String: String?]] =
        if let named = ProcessInfo.processInfo.environment["OPENBLAS_CORETYPE"] {
            [["OPENBLAS_CORETYPE": named]]
        } else {
            [["OPENBLAS_CORETYPE": nil], ["OPENBLAS_CORETYPE": "Haswell"]]
        }

    @Test(arguments: kernels)
    func mainJobMatchesTheOracle(environment: [String: String?]) throws {
        try Tool.run(
            Tool.tinyArguments(saveDirectory: folder.path), exits: 0, environment: environment)
        let comparison = try OutputComparison(
            reference: TestData.tiny + "/expected", candidate: folder.path)
        #expect(comparison.problems == [])
        #expect(comparison.files == 80)
        #expect(comparison.bits == 9_046_800)
        #expect(comparison.widestMargin <= OutputComparison.roundingMargin)
    }

    @Test(arguments: kernels)
    func alternativeJobMatchesTheOracle(environment: [String: String?]) throws {
        try Tool.run(
            Tool.alternativeArguments(saveDirectory: folder.path), exits: 0,
            environment: environment)
        let comparison = try OutputComparison(
            reference: TestData.tiny + "/expected-alt", candidate: folder.path)
        #expect(comparison.problems == [])
        #expect(comparison.files == 21)
        #expect(comparison.widestMargin <= OutputComparison.roundingMargin)
    }

    @Test(arguments: kernels)
    func rawActivationsMatchTheOracle(environment: [String: String?]) throws {
        try Tool.run(
            Tool.alternativeArguments(saveDirectory: folder.path) + ["--activation_values", "raw"],
            exits: 0,
            environment: environment)
        // The raw fixture has only activations, so the other files are removed before the comparison.
        for name in try directoryContents(folder.path)
        where !name.hasSuffix(".npz") && !name.hasPrefix(".") {
            try FileManager.default.removeItem(atPath: folder.file(name))
        }
        let comparison = try OutputComparison(
            reference: TestData.packageRoot + "/Fixtures/tiny-raw", candidate: folder.path,
            margins: TestData.tiny + "/expected-alt/margins")
        #expect(comparison.problems == [])
        #expect(comparison.files == 9)
        #expect(comparison.worstActivation > 0, "raw values were not compared")
        #expect(comparison.widestMargin <= OutputComparison.roundingMargin)
    }

    @Test func threadsAndRepetitionChangeNoByte() throws {
        var first: [String: [UInt8]]?
        for threads in ["1", "2", "5", "2"] {
            let target = folder.file("out")
            try Tool.run(
                Tool.tinyArguments(saveDirectory: target) + [
                    "--threads", threads, "--storage_format", "both", "--overwrite",
                ], exits: 0)
            let found = try Tool.results(in: target)
            #expect(found.count == 140)
            #expect(found == first ?? found)
            first = found
        }
    }

    @Test(arguments: ["1", "2", "7", "auto"], kernels)
    func batchSizeMovesNothingBeyondRounding(
        batchSize: String, environment: [String: String?]
    ) throws {
        try Tool.run(
            Tool.tinyArguments(saveDirectory: folder.file("4")), exits: 0, environment: environment)
        try Tool.run(
            Tool.tinyArguments(saveDirectory: folder.file("b"), batchSize: batchSize), exits: 0,
            environment: environment)
        // Compares the two runs. Bits may differ only where a value is near the threshold.
        let mutual = try OutputComparison(
            reference: folder.file("4"), candidate: folder.file("b"),
            margins: TestData.tiny + "/expected/margins")
        #expect(mutual.problems == [])
        #expect(mutual.widestMargin <= OutputComparison.roundingMargin)
        // Compares the second run with the oracle.
        let oracle = try OutputComparison(
            reference: TestData.tiny + "/expected", candidate: folder.file("b"))
        #expect(oracle.problems == [])
        #expect(oracle.widestMargin <= OutputComparison.roundingMargin)
    }

    @Test func sparseEqualsDense() throws {
        try Tool.run(
            Tool.alternativeArguments(saveDirectory: folder.path)
                + ["--storage_format", "both", "--activation_values", "raw"], exits: 0)
        let dense = try directoryContents(folder.path).filter {
            $0.hasSuffix(".npz") && !$0.hasSuffix(".sparse.npz")
        }
        #expect(dense.count == 9)
        for name in dense {
            let whole = try NPZReader(path: folder.file(name))
            let csr = try NPZReader(path: folder.file(name.dropLast(4) + ".sparse.npz"))
            let activations = try whole.tensor("activations")
            let (rows, width) = (activations.shape[0] * activations.shape[1], activations.shape[2])
            #expect(integers(try csr.array("shape").data, as: Int64.self) == [rows, width])
            #expect(
                csr.names.sorted() == ["data", "format", "indices", "indptr", "metadata", "shape"])
            let starts = integers(try csr.array("indptr").data, as: Int32.self)
            let columns = integers(try csr.array("indices").data, as: Int32.self)
            let values = try csr.tensor("data").floats()
            var rebuilt = [Float](repeating: 0, count: rows * width)
            #expect(starts.count == rows + 1)
            for row in 0..<rows {
                let entries = starts[row]..<starts[row + 1]
                #expect(zip(columns[entries], columns[entries].dropFirst()).allSatisfy { $0 < $1 })
                for entry in entries { rebuilt[row * width + columns[entry]] = values[entry] }
            }
            #expect(rebuilt == activations.floats())
            let metadata = (try whole.array("metadata").data, try csr.array("metadata").data)
            #expect(metadata.0.elementsEqual(metadata.1))
        }
    }

    private func integers<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ data: [UInt8], as type: Integer.Type
    ) -> [Int] {
        data.withUnsafeBytes { data in
            stride(from: 0, to: data.count, by: MemoryLayout<Integer>.size).map {
                Int(data.loadUnaligned(fromByteOffset: $0, as: Integer.self))
            }
        }
    }
}
