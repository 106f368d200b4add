// Tests of files that cannot be mapped into memory. They are read instead, but only the requested parts.

import Foundation
import TestSupport
import Testing

@testable import Files

struct MappedFileTests {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private func unmapped(
        _ path: String, _ extent: MappedFile.Extent, code: Int32 = ENODEV
    ) throws -> MappedFile {
        try MappedFile(path: path, extent) { _, _ in
            errno = code
            return MAP_FAILED
        }
    }

    @Test func whatCannotBeMappedIsRead() throws {
        let content = (0..<300_001).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let path = try folder.write(content, "f")
        for code in [ENODEV, EINVAL, EACCES, EPERM, ENOSYS, EOPNOTSUPP] {
            let file = try unmapped(path, .whole, code: code)
            #expect(file.bytes.elementsEqual(content))
        }
        #expect(try #require(MappedFile.unmappedNote).contains("read into memory instead"))
        // Loads parts in any order, and one of them twice.
        let file = try unmapped(path, .onDemand)
        for range in [300_000..<300_001, 65_535..<65_537, 100..<100, 0..<1, 65_535..<65_537] {
            try file.load(range)
            #expect(file.bytes[range].elementsEqual(content[range]))
        }
        try file.load(0..<content.count)
        #expect(file.bytes.elementsEqual(content))
        #expect(try unmapped(folder.write([], "empty"), .whole).bytes.isEmpty)
    }

    /// Checks that the error ENOMEM of `mmap` is thrown. Reading the file instead would need memory too.
    @Test func otherFailuresStayErrors() throws {
        let path = try folder.write([1, 2, 3], "f")
        let error = #expect(throws: FileError.self) {
            try unmapped(path, .whole, code: ENOMEM)
        }
        #expect(error.map { "\($0)".contains("raise the memory limit") } == true)
    }

    @Test func aFileThatBecomesShorterIsAnError() throws {
        let path = try folder.write([UInt8](repeating: 7, count: 200_000), "f")
        let file = try unmapped(path, .onDemand)
        try file.load(0..<10)
        truncate(path, 100_000)
        let error = #expect(throws: FileError.self) { try file.load(0..<200_000) }
        #expect(error.map { "\($0)".contains("became shorter while it was read") } == true)
    }

    /// Checks that a file opened with `.onDemand` takes memory only for the parts that are loaded.
    @Test func whatNobodyLoadsTakesNoMemory() throws {
        let path = try folder.write([UInt8](repeating: 1, count: 1 << 20), "f")
        truncate(path, 4 << 30)
        let file = try unmapped(path, .onDemand)
        try file.load(0..<1 << 20)
        try file.load((3 << 30)..<(3 << 30) + (1 << 20))
        var pages = [UInt8](repeating: 0, count: file.bytes.count / Int(getpagesize()))
        let base = UnsafeMutableRawPointer(mutating: file.bytes.baseAddress)
        try #require(mincore(base, file.bytes.count, &pages) == 0)
        #expect(pages.count { $0 & 1 == 1 } * Int(getpagesize()) == 2 << 20)
        #expect(file.bytes[5] == 1 && file.bytes[3 << 30] == 0)
    }
}
