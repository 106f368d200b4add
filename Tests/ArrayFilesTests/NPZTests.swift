// Tests of NPZ archives and NPY headers from this program and from NumPy, and of the layout of archives above 4 GiB.

import Files
import RunFiles
import TestSupport
import Testing

@testable import ArrayFiles

struct NPZTests {
    @Test(arguments: [
        (NPYHeader(descr: "<f4", shape: [6, 359, 70]), 128),
        (NPYHeader(descr: "|O", shape: []), 128),
        (NPYHeader(descr: "<i8", shape: [2]), 128),
        (NPYHeader(descr: "<f4", isFortranOrder: true, shape: [1, 2]), 128),
    ])
    func headersAreNumPysAndComeBack(header: NPYHeader, length: Int) throws {
        let bytes = header.encoded
        #expect(bytes.count == length && bytes.count % 64 == 0 && bytes.last == 0x0A)
        let (read, end) = try bytes.withUnsafeBytes { try NPYHeader.read($0) }
        #expect(read == header && end == bytes.count)
    }

    @Test func headerTextIsNumPys() {
        let text = String(
            decoding: NPYHeader(descr: "<f4", shape: [6, 359, 70]).encoded[10...], as: UTF8.self)
        #expect(
            text.hasPrefix("{'descr': '<f4', 'fortran_order': False, 'shape': (6, 359, 70), } "))
        let one = String(
            decoding: NPYHeader(descr: "<f4", shape: [7]).encoded[10...], as: UTF8.self)
        #expect(one.hasPrefix("{'descr': '<f4', 'fortran_order': False, 'shape': (7,), } "))
    }

    @Test func writtenArchivesComeBack() throws {
        let folder = try TemporaryFolder()
        var random = SeededGenerator(1)
        let values = random.floats(100_000)
        let file = try OutputFile(path: folder.file("a.npz"), temporaryDirectory: folder.path)
        let archive = NPZWriter(file, level: 6)
        try archive.begin("x", NPYHeader(descr: "<f4", shape: [1000, 100]))
        for row in 0..<1000 {
            try values[row * 100..<row * 100 + 100].withUnsafeBytes { try archive.write($0) }
        }
        try archive.end()
        try [Int64(7)].withUnsafeBytes {
            try archive.add("y", NPYHeader(descr: "<i8", shape: []), $0)
        }
        try archive.finish()
        #expect(!fileExists(folder.file("a.npz")), "the file must not be there before it is whole")
        try file.commit()
        #expect(try directoryContents(folder.path) == ["a.npz"])
        let reader = try NPZReader(path: folder.file("a.npz"))
        #expect(reader.names.sorted() == ["x", "y"])
        #expect(try reader.tensor("x").floats() == values)
        #expect(try reader.tensor("x").shape == [1000, 100])
        #expect(try reader.array("y").data == [7, 0, 0, 0, 0, 0, 0, 0])
    }

    /// Checks a member above 4 GiB: its sizes must be in ZIP64 fields, both in the local header and in the directory.
    @Test func membersBeyondFourGibibytesHaveZIP64Fields() throws {
        let folder = try TemporaryFolder()
        let file = try OutputFile(path: folder.file("a.npz"), temporaryDirectory: folder.path)
        let archive = NPZWriter(file, level: 1)
        let zeros = [UInt8](repeating: 0, count: 1 << 26)
        let count = (1 << 32) + (1 << 26)
        try archive.begin("x", NPYHeader(descr: "|u1", shape: [count]))
        for _ in 0..<count / zeros.count { try zeros.withUnsafeBytes { try archive.write($0) } }
        try archive.end()
        try archive.finish()
        try file.commit()

        let bytes = try TestData.bytes(folder.file("a.npz"))
        func u16(_ i: Int) -> Int { Int(bytes[i]) | Int(bytes[i + 1]) << 8 }
        func u32(_ i: Int) -> UInt32 { UInt32(u16(i)) | UInt32(u16(i + 2)) << 16 }
        func u64(_ i: Int) -> Int { Int(u32(i)) | Int(u32(i + 4)) << 32 }
        // Local header: both 32-bit sizes are placeholders. The ZIP64 field follows the name "x.npy".
        #expect(u32(0) == 0x0403_4B50 && u32(18) == .max && u32(22) == .max)
        #expect(u16(30 + 5) == 1 && u16(30 + 7) == 16)
        #expect(u64(30 + 9) == count + 128)
        let compressed = u64(30 + 17)
        // Directory entry: only the uncompressed size needs more than 32 bits.
        let end = bytes.count - 22
        let entry = Int(u32(end + 16))
        #expect(u32(end) == 0x0605_4B50 && entry == 30 + 5 + 20 + compressed)
        #expect(u32(entry) == 0x0201_4B50 && u32(entry + 24) == .max)
        #expect(u32(entry + 20) == UInt32(compressed))
        #expect(u16(entry + 46 + 5) == 1 && u16(entry + 46 + 7) == 8)
        #expect(u64(entry + 46 + 9) == count + 128)
    }

    @Test func numPysArchivesAreReadInEveryForm() throws {
        let root = TestData.tiny + "/sae/gemma-scope-2b-pt-"
        // The four arrays are stored, deflated, in Fortran order, and named with a lower-case w.
        for (path, name, shape, isFortran) in [
            ("res/layer_0/width_16k/average_l0_46", "W_enc", [64, 70], false),
            ("mlp/layer_0/width_16k/average_l0_60", "W_enc", [64, 70], false),
            ("mlp/layer_1/width_16k/average_l0_48", "W_enc", [64, 70], true),
            ("att/layer_3/width_16k/average_l0_44", "w_enc", [128, 70], false),
        ] {
            let tensor = try NPZReader(path: "\(root)\(path)/params.npz").tensor(name)
            #expect(tensor.shape == shape && tensor.isFortranOrder == isFortran)
            #expect(tensor.floats().allSatisfy { $0.isFinite })
        }
    }

    @Test func commentsMayHoldAnything() throws {
        let folder = try TemporaryFolder()
        let bytes = NPYHeader(descr: "<f4", shape: [1]).encoded + [0, 0, 0x80, 0x3F]
        var zip = ZipBuilder()
        zip.add("x.npy", bytes, crc: bytes.withUnsafeBytes { crc32($0) })
        // This archive comment contains the signature of an end record.
        let comment: [UInt8] = [0x50, 0x4B, 0x05, 0x06] + Array(repeating: 0, count: 30)
        let archive =
            Array(zip.bytes[..<(zip.bytes.count - 2)]) + [UInt8(comment.count), 0] + comment
        let reader = try NPZReader(path: folder.write(archive, "a.npz"))
        #expect(try reader.tensor("x").floats() == [1])
    }

    @Test func metadataIsByteForByteNumPys() throws {
        // NumPy 1.26 wrote this file: np.savez_compressed(…, metadata={…}).
        let path =
            TestData.tiny
            + "/expected/sae__google_gemma-2-2b__att__activations__lantérne__layer_0.npz"
        let (header, data) = try NPZReader(path: path).array("metadata")
        #expect(header == FeatureMetadata.header)
        let metadata = FeatureMetadata(
            author: "lantérne", documentCount: 5, layer: 0,
            tokensPerDocument: [193, 249, 213, 231, 117, 0],
            saeName: "layer_0/width_16k/average_l0_57")
        #expect(metadata.pickle == data)
    }

    @Test func outputFilesLeaveNothingWhereTheyFail() throws {
        let folder = try TemporaryFolder()
        do {
            let file = try OutputFile(path: folder.file("a"), temporaryDirectory: folder.path)
            try file.write(Array("abc".utf8))
        }
        #expect(try directoryContents(folder.path) == [])
    }
}
