// Tests of the free space of file systems.

import Files
import TestSupport
import Testing

struct FreeSpaceTests {
    @Test func freeSpaceIsThatOfTheNearestFolder() throws {
        let folder = try TemporaryFolder()
        let here = FreeSpace(at: folder.path)
        #expect(try #require(here.bytes) > 0)
        #expect(FreeSpace(at: folder.file("not/there/yet")).bytes != nil)
        // The file system /proc reports no blocks, so its free space is unknown.
        #expect(FreeSpace(at: "/proc/self") == FreeSpace(at: "/proc"))
        #expect(FreeSpace(at: "/proc").bytes == nil)
    }
}
