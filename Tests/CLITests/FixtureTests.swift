// Checks that the SHA-256 of the fixture's files are those in `SHA256SUMS`.

import Files
import Foundation
import TestSupport
import Testing

struct FixtureTests {
    @Test func everyFileHasItsCommittedHash() throws {
        let root = TestData.packageRoot + "/Fixtures"
        let list = try TestData.text(root + "/SHA256SUMS")
        let wanted = Dictionary(
            uniqueKeysWithValues: list.split(separator: "\n").map { line in
                (Array(String(line.dropFirst(66)).utf8), String(line.prefix(64)))
            })
        let manager = FileManager.default
        let found = try manager.subpathsOfDirectory(atPath: root).filter {
            !isDirectory("\(root)/\($0)") && ($0.hasPrefix("tiny/") || $0.hasPrefix("tiny-raw/"))
        }
        #expect(Set(found.map { Array($0.utf8) }) == Set(wanted.keys))
        for name in found {
            #expect(
                try sha256(TestData.bytes("\(root)/\(name)")) == wanted[Array(name.utf8)], "\(name)"
            )
        }
    }
}
