// The paths of the tests' data, temporary folders, and reproducible random numbers.

import Files
import Foundation

/// Paths of the files that tests read, and helpers to read and write files.
package enum TestData {
    /// The path of the package's root folder.
    package static let packageRoot = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path

    /// The folder of the tiny model, SAEs, corpus and expected outputs.
    package static let tiny = packageRoot + "/Fixtures/tiny"

    /// The folder of the real tokenizer and corpus sample, which are not in this repository. Nil if
    /// SAE_EXTRACT_TEST_DATA is not set.
    package static let shared = ProcessInfo.processInfo.environment["SAE_EXTRACT_TEST_DATA"]

    /// The message that the test report shows for skipped tests of real data.
    package static let skipReason =
        "SAE_EXTRACT_TEST_DATA does not name a folder with tokenizer/gemma2 and data/authormix_sample.jsonl"

    /// Reads the file at `path`.
    package static func bytes(_ path: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    }

    /// Reads the text of the file at `path`.
    package static func text(_ path: String) throws -> String {
        String(decoding: try bytes(path), as: UTF8.self)
    }

    /// Writes `bytes` to the file at `path`.
    package static func write(_ bytes: some Sequence<UInt8>, to path: String) throws {
        try Data(bytes).write(to: URL(fileURLWithPath: path))
    }
}

/// A temporary folder for one test. The folder is removed when the object is released.
package final class TemporaryFolder {
    /// The path of the folder.
    package let path: String

    /// Creates an empty folder.
    package init() throws {
        path = NSTemporaryDirectory() + "sae-extract-tests-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Returns the path of `name` in the folder; the file need not exist.
    package func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Writes `bytes` to `name`, creates missing parent folders, and returns the file's path.
    @discardableResult
    package func write(_ bytes: some Sequence<UInt8>, _ name: String) throws -> String {
        let file = try place(name)
        try TestData.write(bytes, to: file)
        return file
    }

    /// Copies the file or folder `source` to `name`, creates missing parent folders, and returns the copy's path.
    @discardableResult
    package func copy(_ source: String, _ name: String) throws -> String {
        let target = try place(name)
        try FileManager.default.copyItem(atPath: source, toPath: target)
        return target
    }

    /// Makes `name` a symbolic link to `target`, creates missing parent folders, and returns the link's path.
    @discardableResult
    package func link(_ name: String, to target: String) throws -> String {
        let link = try place(name)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: target)
        return link
    }

    /// Creates the folder `name` and missing parent folders if they do not exist. Returns the folder's path.
    @discardableResult
    package func make(_ name: String) throws -> String {
        try FileManager.default.createDirectory(
            atPath: file(name), withIntermediateDirectories: true)
        return file(name)
    }

    /// Creates missing parent folders of `name`. Returns the path of `name`.
    private func place(_ name: String) throws -> String {
        try make(parentFolder(of: name))
        return file(name)
    }
}

/// A reproducible random number generator (SplitMix64).
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    /// Starts the sequence that belongs to `seed`.
    package init(_ seed: UInt64) {
        state = seed
    }

    /// Returns the next 64 random bits.
    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }

    /// Returns `count` floats, uniformly distributed over -scale…scale.
    package mutating func floats(_ count: Int, scale: Float = 1) -> [Float] {
        (0..<count).map { _ in Float.random(in: -scale...scale, using: &self) }
    }
}
