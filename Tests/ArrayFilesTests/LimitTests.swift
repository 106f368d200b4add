// Tests of files that state a larger size than they have data for. They must be refused before memory is allocated.

import Foundation
import Glibc
import TestSupport
import Testing

@testable import ArrayFiles
@testable import Files

struct LimitTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private func reason(_ bytes: [UInt8]) throws -> String {
        let path = try folder.write(bytes, "a.npy")
        let error = #expect(throws: (any Error).self) { try ArrayScan(npy: path) }
        return error.map { "\($0)" } ?? ""
    }

    @Test func headersAreShortAndShapesHaveFewDimensions() throws {
        func header(_ shape: [Int]) -> [UInt8] { NPYHeader(descr: "<f4", shape: shape).encoded }
        let most = [Int](repeating: 1, count: 64)
        let path = try folder.write(header(most) + [0, 0, 0, 0], "most.npy")
        #expect(try ArrayScan(npy: path).header.shape == most)
        #expect(try reason(header(most + [1])).contains("more than 64 dimensions"))
        let long =
            [0x93] + Array("NUMPY".utf8) + [2, 0, 0, 0, 2, 0]
            + [UInt8](repeating: 0x20, count: 1 << 17)
        #expect(try reason(long).contains("a header of 131072 bytes, more than 65536"))
    }

    @Test func sizesThatOverflowAreAnError() throws {
        for shape in [[1 << 40, 1 << 40], [1 << 62, 4, 0], [Int.max, 2]] {
            let path = try folder.write(NPYHeader(descr: "<f4", shape: shape).encoded, "a.npy")
            #expect(throws: NPZError.self) { try ArrayScan(npy: path).checkSize() }
        }
    }

    /// Checks that weights are refused if they unpack to far more bytes than the file has. Zeros pack to a thousandth
    /// of their size, so a small file could fill the memory.
    @Test func weightsThatUnpackToFarMoreThanThereIsAreRefused() throws {
        func archive(_ count: Int) throws -> NPZReader {
            let path = folder.file("zeros.npz")
            try OutputFile.make(path: path, temporaryDirectory: folder.path) { file in
                let writer = NPZWriter(file, level: 1)
                try writer.addSparse("W_enc", NPYHeader(descr: "<f4", shape: [count])) { _ in }
                try writer.finish()
            }
            return try NPZReader(path: path)
        }
        // A small array is allowed at any compression ratio.
        try archive(1 << 20).checkUnpacking(ofWeights: "W_enc")
        let error = #expect(throws: NPZError.self) {
            try archive(1 << 25).checkUnpacking(ofWeights: "W_enc")
        }
        #expect(
            error?.description.contains(
                "array W_enc unpacks to 134217856 bytes, more than 64 times the ") == true)
    }

    @Test func memoryThatThereIsNotIsAnError() {
        let error = #expect(throws: FileError.self) {
            try OwnedBytes(count: 1 << 60, for: "a/params.npz")
        }
        #expect(error?.code == ENOMEM && error?.description.contains("a/params.npz") == true)
    }

    @Test func sumsOfClaimsDoNotOverflow() {
        #expect([Int.max, 1].clampedSum == .max && [Int.min, -1].clampedSum == .min)
        #expect([1, 2, 3].clampedSum == 6)
        #expect(Int.max.clampedMultiplied(by: 2) == .max)
        #expect(Int.max.clampedMultiplied(by: -2) == .min)
        #expect(3.clampedMultiplied(by: -2) == -6)
        #expect(Int(clamping: 1e30) == .max && Int(clamping: -1e30) == .min)
        #expect(Int(clamping: Double.nan) == 0 && Int(clamping: 0x1p63) == .max)
        #expect(Int(clamping: 7.9) == 7)
    }
}
