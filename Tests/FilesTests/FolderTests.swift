// Tests of folders that are accessed by handles. No link, pipe or device may lead out of the folder.

import Foundation
import TestSupport
import Testing

@testable import Files

struct FolderTests {
    let temporary: TemporaryFolder
    /// A folder outside `own`, which no test may change.
    let outside: String

    init() throws {
        temporary = try TemporaryFolder()
        outside = temporary.file("outside")
        try temporary.write("precious".utf8, "outside/deep/thesis.txt")
        try temporary.write("x".utf8, "own/a/b/file")
    }

    private var own: GuardedPath { GuardedPath(temporary.file("own")) }

    private func link(_ name: String, to target: String) throws {
        try FileManager.default.createSymbolicLink(
            atPath: temporary.file("own/\(name)"), withDestinationPath: target)
    }

    private func expectUntouched() throws {
        #expect(try TestData.bytes("\(outside)/deep/thesis.txt") == Array("precious".utf8))
        #expect(try FileManager.default.contentsOfDirectory(atPath: outside) == ["deep"])
    }

    private func refusal(_ body: () throws -> Void) -> String {
        do {
            try body()
            return "nothing was refused"
        } catch {
            return "\(error)"
        }
    }

    @Test func removingNeverLeavesTheFolder() throws {
        try link("a/b/out", to: outside)
        try link("a/file", to: outside + "/deep/thesis.txt")
        try link("a/dangling", to: "/nowhere")
        mkfifo(temporary.file("own/a/pipe"), 0o666)
        try (own / "a").remove()
        #expect(!(own / "a").exists)
        try link("a", to: outside)
        try (own / "a").remove()
        #expect(try own.names() == [])
        try expectUntouched()
        // Removing an entry that does not exist must not be an error.
        try (own / "a").remove()
        try (own / "x" / "y").remove()
    }

    @Test func aStepThatIsALinkIsRefusedByName() throws {
        try link("linked", to: outside)
        let path = temporary.file("own/linked")
        for body in [
            { _ = try (own / "linked").folder() }, { _ = try (own / "linked").makeFolder() },
            { _ = try (own / "linked" / "deep").names() },
            { _ = try (own / "linked" / "deep" / "thesis.txt").open() },
            { try (own / "linked" / "deep").remove() },
            { _ = try OutputFile(own / "linked" / "new", begunIn: own).commit() },
            { _ = try OutputFile(own / "new", begunIn: own / "linked") },
        ] as [() throws -> Void] {
            let text = refusal(body)
            #expect(
                text.contains(
                    "cannot use \(path): it is a link to \(outside), expected a folder that this program has made"
                ), "\(text)")
        }
        try expectUntouched()
    }

    /// Checks that a folder that the user names may be a symlink.
    @Test func theGivenFolderMayBeALink() throws {
        try link("given", to: temporary.file("own/a"))
        let given = GuardedPath(temporary.file("own/given"))
        #expect(try given.names() == ["b"])
        try OutputFile.make(given / "new", begunIn: given / "b") { try $0.write(Array("y".utf8)) }
        #expect(try TestData.bytes(temporary.file("own/a/new")) == Array("y".utf8))
        #expect(try (given / "b").names() == ["file"])
    }

    @Test func onlyRegularFilesAreOpened() throws {
        mkfifo(temporary.file("own/pipe"), 0o666)
        try link("zero", to: "/dev/zero")
        try link("text", to: outside + "/deep/thesis.txt")
        for (name, found) in [
            ("pipe", "a pipe (FIFO)"), ("zero", "a link to /dev/zero"),
            ("text", "a link to \(outside)/deep/thesis.txt"), ("a", "a folder"),
        ] {
            for body in [
                { _ = try (own / name).open() }, { _ = try (own / name).open(O_WRONLY | O_CREAT) },
                { _ = try MappedFile(own / name) },
            ] as [() throws -> Void] {
                let text = refusal(body)
                #expect(text.contains("own/\(name): it is \(found), expected a file"), "\(text)")
                #expect(text.contains("remove it, and run the same command again"), "\(text)")
            }
        }
        #expect(try (own / "nothing").open() == nil)
        try expectUntouched()
    }

    /// Checks that writing a file replaces a symlink with the same name. The symlink's target must stay unchanged.
    @Test func writingReplacesLinks() throws {
        try link("result", to: outside + "/deep/thesis.txt")
        try OutputFile.make(own / "result", begunIn: own / "a") { try $0.write(Array("z".utf8)) }
        #expect(try TestData.bytes(temporary.file("own/result")) == Array("z".utf8))
        try link("other", to: outside + "/deep/new.txt")
        let file = try OutputFile(own / "other", begunIn: own / "a")
        #expect(try !file.commitIfAbsent())
        try expectUntouched()
    }

    @Test func writingGoesOnWhereAFileIsKeptOpen() throws {
        let descriptor = try OutputFile.makeKeepingOpen(own / "log", begunIn: own / "a") {
            try $0.write(Array("one ".utf8))
        }
        defer { close(descriptor) }
        #expect(write(descriptor, "two", 3) == 3)
        #expect(try TestData.bytes(temporary.file("own/log")) == Array("one two".utf8))
    }

    @Test func nestingWithoutEndIsAnError() throws {
        var path = temporary.file("own/deep")
        for _ in 0..<100 {
            mkdir(path, 0o777)
            path += "/d"
        }
        let text = refusal { try (own / "deep").remove() }
        #expect(text.contains("cannot remove ") && text.contains("/d/d"), "\(text)")
        try FileManager.default.removeItem(atPath: temporary.file("own/deep"))
    }

    @Test(arguments: [
        "..", ".", "a/..", "../outside", "a//b", "/a", "", "a/\u{0}", "../\u{301}x",
        "a/../\u{301}x",
    ])
    func pathsInFilesLeadDownwards(path: String) {
        #expect(GuardedPath("/r", below: path) == nil)
    }

    @Test func pathsAreAsTheyWereGiven() {
        #expect(GuardedPath("/r", below: "a/b")?.path == "/r/a/b")
        #expect(GuardedPath(file: "/x").path == "/x")
        #expect(GuardedPath(file: "x").path == "x")
        #expect(GuardedPath(file: "../o/x").path == "../o/x")
        #expect((GuardedPath("/") / "x").path == "/x")
    }
}
