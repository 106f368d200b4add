// Tests of arrays whose shapes state more rows than the file has data for. Readers must not loop over these rows.

import ByteJSON
import Files
import Foundation
import TestSupport
import Testing

@testable import ArrayFiles
@testable import Results

struct ShapeTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private func npy(_ descr: String, _ shape: [Int], _ data: [UInt8] = []) -> [UInt8] {
        NPYHeader(descr: descr, shape: shape).encoded + data
    }

    private func npz(_ members: [(String, [UInt8])]) throws -> String {
        var zip = ZipBuilder()
        for (name, bytes) in members {
            zip.add(name + ".npy", bytes, crc: bytes.withUnsafeBytes { crc32($0) })
        }
        return try folder.write(zip.bytes, "a.npz")
    }

    @Test(arguments: [[1_000_000_000, 0], [1 << 61, 0], [0, 1 << 40]])
    func metricsWithoutElementsHaveNoRows(shape: [Int]) throws {
        let path = try folder.write(npy("<f2", shape), "sae__x__entropy_loss__b.npy")
        let inspection = try Inspection(path)
        #expect(inspection.json["tokens"] == 0)
        #expect(inspection.lines[0].contains("float16 (\(shape[0]), \(shape[1]))"))
        var options = InspectionOptions()
        options.document = 5
        let error = #expect(throws: ResultsError.self) { try Inspection(path, options) }
        #expect(error?.description.contains("there are no documents") == true)
    }

    /// Checks an activations array without elements. If its shape is within the limits, it is read and has no tokens.
    /// Otherwise it is refused under the name of an output file, and listed as a plain array under another name.
    @Test(arguments: [
        ([1 << 24, 16, 0], true), ([1 << 26, 4, 0], false), ([0, 1 << 30, 7], false),
    ])
    func activationsWithoutElementsHaveNoRows(shape: [Int], isRead: Bool) throws {
        let path = try npz([("activations", npy("<f4", shape))])
        #expect(try Inspection(path).json["kind"] == (isRead ? "dense activations" : "npz"))
        let ours = try folder.write(
            try TestData.bytes(path), "sae__x__res__activations__b__layer_1.npz")
        if isRead {
            #expect(try Inspection(ours).json["tokens"] == 0)
        } else {
            #expect(throws: ResultsError.self) { try Inspection(ours) }
        }
    }

    @Test func shapesBeyondTheLimitsAreNamed() throws {
        for (shape, size) in [([1, 1, 1 << 23], 1 << 25), ([1, 1 << 21, 1], 1 << 23)] {
            let bytes = npy("<f4", shape, [UInt8](repeating: 0, count: size))
            let path = try npz([("activations", bytes)])
            let error = #expect(throws: ResultsError.self) { try ActivationsFile(path: path) }
            #expect(error?.description.contains("are more than this program reads") == true)
        }
        let run = """
            {"runs": [{"model": {"label": "m/x"}, "outcome": "done", "shape": {"documents": 9000000000, "tokens": 4}}]}
            """
        try folder.write(run.utf8, "run.json")
        let error = #expect(throws: ResultsError.self) { try FinishedRun(folder.path) }
        #expect(error?.description.contains("(9000000000, 4), is invalid") == true)
    }

    /// Checks that the reader finds rows by `indptr`, skips rows without features, and refuses an invalid `indptr`.
    @Test func sparseRowsAreReadByTheirEnds() throws {
        func little<N: FixedWidthInteger>(_ values: [N]) -> [UInt8] {
            values.flatMap { withUnsafeBytes(of: $0.littleEndian, Array.init) }
        }
        func file(_ starts: [Int32], rows: Int? = nil) throws -> ActivationsFile {
            try ActivationsFile(
                path: try npz([
                    ("format", npy("|S3", [], Array("csr".utf8))),
                    ("shape", npy("<i8", [2], little([rows ?? starts.count - 1, 5]))),
                    ("indptr", npy("<i4", [starts.count], little(starts))),
                    ("indices", npy("<i4", [3], little([1, 4, 0] as [Int32]))),
                    (
                        "data",
                        npy("<f4", [3], little([1, 2, 3].map { Float($0).bitPattern }))
                    ),
                ]))
        }
        func entries(_ file: ActivationsFile) throws -> [[Double]] {
            var entries: [[Double]] = []
            try file.forEachEntry { entries.append([Double($0), Double($1), Double($2)]) }
            return entries
        }
        let expected = [[2.0, 1, 1], [2, 4, 2], [4, 0, 3]]
        #expect(try entries(try file([0, 0, 0, 2, 2, 3, 3])) == expected)
        #expect(try entries(try file([0, 2, 3])) == [[0, 1, 1], [0, 4, 2], [1, 0, 3]])
        for wrong in [
            [0, 0, 0, 2, 0, 3, 3], [0, 2, 1, 3], [1, 2, 3], [0, 2, 4], [0, 2, 2], [0, -1, 3],
            [0, 3, 3], [0, 0, 0], [0, 2, 3, 0],
        ] as [[Int32]] {
            #expect(throws: ResultsError.self) { try entries(try file(wrong)) }
        }
        #expect(throws: ResultsError.self) { try entries(try file([0, 2, 3], rows: 3)) }
    }

    /// Checks that sums of large numbers in run.json do not overflow.
    @Test func claimsAddUpToNoOverflow() throws {
        let entry = """
            {"model": {"label": "m/x"}, "outcome": "done", "shape": {"documents": 2, "tokens": 4}, "ranks": [0], "world_size": 1,
             "settings": {"storage_format": "dense"}, "tokens": 9223372036854775807, "authors": [],
             "saes": [{"hook": "blocks.1.hook_resid_post", "sae_name": "layer_1/width_16k/average_l0_7", "d_sae": 9223372036854775807}]}
            """
        let ranks = entry.replacing(#""world_size": 1"#, with: #""world_size": 9000"#)
        try folder.write(
            "{\"runs\": [\(Array(repeating: ranks, count: 9000).joined(separator: ","))]}".utf8,
            "run.json")
        #expect(try FinishedRun(folder.path).saes.count == 1)
    }
}
