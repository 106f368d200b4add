// Tests of the identities of input files.

import Files
import TestSupport
import Testing

@testable import Planning

struct InputFileTests {
    @Test func identitiesSeeSizeHeaderAndBlocks() throws {
        let folder = try TemporaryFolder()
        func identity(_ bytes: [UInt8]) throws -> String {
            try MappedFile(path: folder.write(bytes, "f")).identity(headerLength: 100)
        }
        let small = [UInt8](repeating: 1, count: 1000)
        #expect(try identity(small) == identity(small))
        #expect(try identity(small) != identity(small + [1]))
        var large = [UInt8](repeating: 1, count: 9 << 20)
        let first = try identity(large)
        large[50] = 2
        #expect(try identity(large) != first)
        large[50] = 1
        large[large.count - 1] = 2
        #expect(try identity(large) != first)
    }
}
