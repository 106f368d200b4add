// Tests of SAEs whose arrays are much larger when unpacked than in the file.

import ArrayFiles
import Files
import Foundation
import TestSupport
import Testing

@testable import SparseAutoencoders

struct PackedSAETests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// Makes an SAE of zeros with `features` features, for activations of width 64. `others` has other shapes for
    /// some arrays.
    private func file(_ features: Int, _ others: [String: [Int]] = [:]) throws -> SAEFile {
        var shapes = [
            "W_enc": [64, features], "b_enc": [features], "W_dec": [features, 64], "b_dec": [64],
            "threshold": [features],
        ]
        for (name, shape) in others { shapes[name] = shape }
        try OutputFile.make(
            path: folder.file("params.npz"), temporaryDirectory: folder.path
        ) { file in
            let writer = NPZWriter(file, level: 1)
            for (name, shape) in shapes {
                try writer.addSparse(name, NPYHeader(descr: "<f4", shape: shape)) { _ in }
            }
            try writer.finish()
        }
        return try SAEFile(directory: folder.path)
    }

    private func check(_ file: SAEFile) throws {
        try file.check(dIn: 64, hookName: "blocks.0.hook_resid_post")
    }

    /// Checks that a small file with gigabytes of packed zeros is refused before any array is unpacked.
    @Test func nothingIsUnpackedToBeRefused() throws {
        try check(try file(1000))
        let error = #expect(throws: NPZError.self) { try check(try file(1 << 24)) }
        #expect(error?.description.contains("array W_enc unpacks to 4294967424 bytes") == true)
        for (name, shape) in [
            ("W_dec", [1 << 24, 64]), ("b_enc", [1 << 30]), ("threshold", [1 << 28, 4]),
        ] {
            #expect(throws: (any Error).self) { try check(try file(1000, [name: shape])) }
        }
    }

    @Test func aScaleIsOneOrOneForEachFeature() throws {
        let error = #expect(throws: SAEError.self) {
            try check(try file(1000, ["scaling_factor": [1 << 20]]))
        }
        #expect(
            error
                == .wrongShape(
                    path: folder.file("params.npz"), tensor: "scaling_factor", shape: [1 << 20],
                    expected: "[1000] (d_sae)"))
    }
}
