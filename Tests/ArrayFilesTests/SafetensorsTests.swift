// Tests of safetensors: values at any alignment, the three element types, and hostile headers.

import TestSupport
import Testing

@testable import ArrayFiles

struct SafetensorsTests {
    @Test func everyTypeBecomesFloats() throws {
        let folder = try TemporaryFolder()
        let values: [Float] = [0, 1, -2.5, 3.140625, 1e-3, 65504, -0.0, 7, 8, 9, 10]
        var builder = SafetensorsBuilder()
        builder.add("f32", [11], values)
        builder.add(
            "bf16", "BF16", [11],
            values.flatMap { withUnsafeBytes(of: UInt16($0.bitPattern >> 16), Array.init) })
        builder.add(
            "f16", "F16", [11],
            values.flatMap { withUnsafeBytes(of: Float16($0).bitPattern, Array.init) })
        let file = try SafetensorsFile(path: try folder.write(builder.bytes(), "a.safetensors"))
        #expect(try file.tensor("f32").floats() == values)
        #expect(
            try file.tensor("bf16").floats()
                == values.map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) })
        #expect(try file.tensor("f16").floats() == values.map { Float(Float16($0)) })
        #expect(file.elementTypes == [.float32, .bfloat16, .float16])
        #expect(
            throws: SafetensorsError.missingTensor(path: folder.file("a.safetensors"), tensor: "x")
        ) {
            try file.tensor("x")
        }
    }

    @Test func namesThatOnlyLookAlikeAreTwoTensors() throws {
        let folder = try TemporaryFolder()
        var builder = SafetensorsBuilder()
        builder.add("\u{E9}", [1], [1])
        builder.add("e\u{301}", [1], [2])
        let file = try SafetensorsFile(path: try folder.write(builder.bytes(), "a.safetensors"))
        #expect(try file.tensor("\u{E9}").floats() == [1])
        #expect(try file.tensor("e\u{301}").floats() == [2])
    }

    @Test func oneNameTwiceIsRefused() throws {
        let folder = try TemporaryFolder()
        var builder = SafetensorsBuilder()
        builder.add("a", [1], [1])
        builder.add("a", [1], [2])
        let path = try folder.write(builder.bytes(), "a.safetensors")
        #expect(
            throws: SafetensorsError.badEntry(path: path, tensor: "a", reason: "is listed twice")
        ) {
            try SafetensorsFile(path: path)
        }
    }

    @Test func holesAreRefused() throws {
        let folder = try TemporaryFolder()
        var builder = SafetensorsBuilder()
        builder.add("a", [1], [1])
        builder.add("b", [1], [2])
        let header =
            #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F16","shape":[1],"data_offsets":[6,8]}}"#
        let path = try folder.write(builder.bytes(header: header), "a.safetensors")
        #expect(
            throws: SafetensorsError.notContiguous(path: path, tensor: "b", begin: 6, expected: 4)
        ) {
            try SafetensorsFile(path: path)
        }
    }

    /// Checks that a header with changed bytes never causes a crash. It must give an error or a readable file.
    @Test func damagedHeadersNeverCrash() throws {
        let folder = try TemporaryFolder()
        let whole = try TestData.bytes(TestData.tiny + "/model/model-00003-of-00003.safetensors")
        var random = SeededGenerator(2)
        for _ in 0..<400 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                bytes[Int.random(in: 0..<1200, using: &random)] = UInt8.random(
                    in: 0...255, using: &random)
            }
            let path = try folder.write(bytes, "a.safetensors")
            do {
                _ = try SafetensorsFile(path: path)
            } catch let error as SafetensorsError {
                #expect("\(error)".contains(path))
            }
        }
    }

    /// Checks that an archive with changed bytes never causes a crash. It must give an error or a readable file.
    @Test func damagedArchivesNeverCrash() throws {
        let folder = try TemporaryFolder()
        let source = "/sae/gemma-scope-2b-pt-mlp/layer_0/width_16k/average_l0_60/params.npz"
        let whole = try TestData.bytes(TestData.tiny + source)
        var random = SeededGenerator(3)
        for _ in 0..<400 {
            var bytes = whole
            // The last 600 bytes are the directory. Local headers and data come before it.
            let range =
                Bool.random(using: &random) ? whole.count - 600..<whole.count : 0..<whole.count
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                bytes[Int.random(in: range, using: &random)] = UInt8.random(
                    in: 0...255, using: &random)
            }
            let path = try folder.write(bytes, "a.npz")
            do {
                let reader = try NPZReader(path: path)
                for name in reader.names { _ = try reader.tensor(name) }
            } catch let error as NPZError {
                #expect("\(error)".contains(path))
            }
        }
    }
}
