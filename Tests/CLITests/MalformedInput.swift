// The type of a test case with bad input: how the test makes the input, and what the program must report.

import ArrayFiles
import Files
import Foundation
import TestSupport
import Testing

/// A run with one bad input.
struct MalformedInput: Sendable, CustomTestStringConvertible {
    /// What is wrong with the input. Also the name of the test case.
    let name: String
    /// The expected exit code.
    let status: Int32
    /// Texts that the error must contain: the place and the next step.
    let mentions: [String]
    /// Makes one input of the job bad.
    let damage: @Sendable (inout Job) throws -> Void

    init(
        _ name: String, exits status: Int32, mentioning mentions: [String],
        _ damage: @escaping @Sendable (inout Job) throws -> Void
    ) {
        (self.name, self.status, self.mentions, self.damage) = (name, status, mentions, damage)
    }

    var testDescription: String { name }
}

/// A small run whose inputs can be replaced by damaged copies.
struct Job {
    let folder: TemporaryFolder
    var model = TestData.tiny + "/model-single"
    var corpus = TestData.tiny + "/authormix.jsonl"
    var saes = TestData.tiny + "/sae-lens"
    var extra: [String] = []
    var launcher: [String] = []
    var saveDirectory: String

    init() throws {
        folder = try TemporaryFolder()
        saveDirectory = folder.file("out")
    }

    var arguments: [String] {
        [
            "--layers", "0", "--model", "google/gemma-2-2b", "--model_path", model, "--data_path",
            corpus, "--sae_dir", saes, "--n_docs", "2", "--save_dir", saveDirectory,
        ] + extra
    }

    /// Replaces the corpus by `bytes`.
    mutating func useCorpus(_ bytes: some Sequence<UInt8>, _ name: String = "corpus.jsonl") throws {
        corpus = try folder.write(bytes, name)
    }

    /// Replaces the corpus by `lines`.
    mutating func useCorpus(lines: [String]) throws {
        try useCorpus(lines.joined(separator: "\n").utf8)
    }

    /// Uses a copy of the single-file checkpoint in which file `name` is changed.
    mutating func changeModel(_ name: String, _ change: (inout [UInt8]) throws -> Void) throws {
        try copyModel()
        try self.change(name, in: model, change)
    }

    /// Uses a copy of the sharded checkpoint in which file `name` is changed.
    mutating func changeShards(_ name: String, _ change: (inout [UInt8]) throws -> Void) throws {
        model = try folder.copy(TestData.tiny + "/model", "model")
        try self.change(name, in: model, change)
    }

    /// Uses a copy of the single-file checkpoint.
    mutating func copyModel() throws {
        model = try folder.copy(TestData.tiny + "/model-single", "model")
    }

    /// Uses a copy of the single-file checkpoint in which `new` replaces `old` in the text file `name`.
    mutating func changeModelText(
        _ name: String, _ old: String, _ new: String
    ) throws {
        try changeModel(name) { try Job.replace(old, by: new, in: &$0) }
    }

    /// Adds a tensor without elements to the header of `model.safetensors`.
    mutating func addToHeader(_ tensor: String) throws {
        let first = "\"model.embed_tokens.weight\":"
        try changeHeader(
            first, "\"\(tensor)\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},\(first)"
        )
    }

    /// Replaces `old` by `new` in the header of `model.safetensors`; the data stays.
    mutating func changeHeader(_ old: String, _ new: String) throws {
        try changeModel("model.safetensors") { bytes in
            let length = Int(bytes[..<8].withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
            let header = String(decoding: bytes[8..<8 + length], as: UTF8.self)
            precondition(header.contains(old), "the fixture has no \(old) in \(header.prefix(600))")
            let changed = Array(header.replacingOccurrences(of: old, with: new).utf8)
            bytes =
                withUnsafeBytes(of: UInt64(changed.count).littleEndian, Array.init) + changed
                + bytes[(8 + length)...]
        }
    }

    /// Replaces `old` by `new` in a text. Throws if the text does not contain `old`.
    static func replace(_ old: String, by new: String, in bytes: inout [UInt8]) throws {
        let text = String(decoding: bytes, as: UTF8.self)
        try #require(text.contains(old), "the fixture has no \(old)")
        bytes = Array(text.replacingOccurrences(of: old, with: new).utf8)
    }

    /// Sets the first element of a bfloat16 tensor in a copy of the single-file checkpoint.
    mutating func setFirstElement(of tensor: String, toBFloat16 element: [UInt8]) throws {
        try changeModel("model.safetensors") { bytes in
            let length = Int(bytes[..<8].withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
            let header = String(decoding: bytes[8..<8 + length], as: UTF8.self)
            let entry = header.components(separatedBy: "\"\(tensor)\"")[1]
            let offset = entry.components(separatedBy: "\"data_offsets\":[")[1].prefix { $0 != "," }
            let start = 8 + length + Int(offset)!
            bytes.replaceSubrange(start..<start + 2, with: element)
        }
    }

    static let resSAE = "gemma-scope-2b-pt-res/layer_0/width_16k/average_l0_46"

    /// Applies `change` to params.npz of `resSAE`, in a copy of the fixture's Gemma Scope folder.
    mutating func changeArchive(_ change: (inout [UInt8]) throws -> Void) throws {
        saes = try folder.copy(TestData.tiny + "/sae", "sae")
        try self.change("\(Job.resSAE)/params.npz", in: saes, change)
    }

    /// Replaces `old` by `new` in one SAE's cfg.json, in a copy of the fixture's SAELens folder.
    mutating func changeSAEConfig(_ old: String, _ new: String) throws {
        saes = try folder.copy(TestData.tiny + "/sae-lens", "sae")
        try change("res/layer_0/width_16k/average_l0_46/cfg.json", in: saes) {
            try Job.replace(old, by: new, in: &$0)
        }
    }

    private func change(
        _ name: String, in directory: String, _ change: (inout [UInt8]) throws -> Void
    ) throws {
        let path = "\(directory)/\(name)"
        var bytes = try TestData.bytes(path)
        try change(&bytes)
        try TestData.write(bytes, to: path)
    }

    /// Applies `change` to the arrays of the fixture's SAE. Returns the arrays as an archive without compression.
    static func archive(
        _ change: (inout [(name: String, header: NPYHeader, data: [UInt8])]) -> Void
    ) throws -> [UInt8] {
        let reader = try NPZReader(path: "\(TestData.tiny)/sae/\(Job.resSAE)/params.npz")
        var arrays = try reader.names.sorted().map { name in
            let (header, data) = try reader.array(name)
            return (name: name, header: header, data: data)
        }
        change(&arrays)
        var zip = ZipBuilder()
        for array in arrays {
            let bytes = array.header.encoded + array.data
            zip.add(array.name + ".npy", bytes, crc: bytes.withUnsafeBytes { crc32($0) })
        }
        return zip.bytes
    }

    /// Returns the fixture's SAE archive with one element of one array changed.
    static func archive(setting array: String, at index: Int, to value: Float) throws -> [UInt8] {
        try archive { arrays in
            let i = arrays.firstIndex { $0.name == array }!
            let bytes = withUnsafeBytes(of: value, Array.init)
            arrays[i].data.replaceSubrange(4 * index..<4 * index + 4, with: bytes)
        }
    }
}
