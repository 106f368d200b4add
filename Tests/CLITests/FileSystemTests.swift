// Tests on file systems that refuse some file names or system calls, or that do not report their free space.

import Files
import Foundation
import TestSupport
import Testing

struct FileSystemTests: Resuming {
    let folder: TemporaryFolder
    let corpus: String

    // MARK: Names

    private static let refused = Set(#":?"<>|*\"#)

    /// Checks that the program's own file names have no characters that Windows' file systems refuse.
    @Test func harmlessNamesAreTakenEverywhere() throws {
        let names = try shim(["FAULT_NAMES": "dos:\(folder.path)"])
        try run(job("out", ["--workers", "2"]), environment: names)
        try run(job("whole"))
        #expect(try results("out") == results("whole"))
        try run(job("out", ["--overwrite"]), environment: names)
        for path in try FileManager.default.subpathsOfDirectory(atPath: folder.file("out")) {
            #expect(!path.contains(where: FileSystemTests.refused.contains), "\(path)")
            for part in path.split(separator: "/") {
                #expect(!part.hasSuffix(".") && !part.hasSuffix(" "), "\(path)")
            }
        }
    }

    @Test(arguments: [
        ("Who: me", "':' (U+003A)"), ("why?", "'?' (U+003F)"), ("a\"b", "'\"' (U+0022)"),
        ("<tag>", "'<' (U+003C)"), ("p|q", "'|' (U+007C)"), ("st*r", "'*' (U+002A)"),
        ("back\\slash", #"'\' (U+005C)"#),
    ])
    func aRefusedCharacterIsKnownBeforehand(author: String, character: String) throws {
        let corpus = try folder.write(
            SyntheticCorpus.jsonl(authors: ["plain", author, "other \(author)"]), "names.jsonl")
        func job(_ name: String) -> [String] {
            Tool.arguments(corpus: corpus, layers: [1], saveDirectory: folder.file(name))
        }
        let outcome = try run(
            job("out"), exits: 74, environment: try shim(["FAULT_NAMES": "dos:\(folder.path)"]))
        #expect(outcome.errors.contains("'\(author)', 'other \(author)'"), "\(outcome.errors)")
        #expect(
            outcome.errors.contains("names with the character")
                && outcome.errors.contains(character))
        #expect(
            outcome.errors.contains("--save_dir") && outcome.errors.contains("--exclude_authors"))
        #expect(computed(outcome) == 0)
        let dry = try run(job("dry") + ["--dry_run"])
        #expect(
            dry.output.contains("characters that some file systems refuse: \(character.prefix(3))")
                && dry.output.contains("(a run checks its file system before it computes)"),
            "\(dry.output)")
        #expect(try own("", in: "out").allSatisfy { !$0.hasSuffix(".partial") })
        // On a file system that accepts the character, the file has its usual name.
        try run(job("plain"))
        #expect(
            fileExists(folder.file("plain/sae__google_gemma-2-2b__tokens__\(author).json")))
    }

    @Test func aFolderThatCannotBeNamedSoIsAnError() throws {
        let outcome = try run(
            job("a:b"), exits: 74, environment: try shim(["FAULT_NAMES": "dos:\(folder.path)"]))
        #expect(
            outcome.errors.contains(
                "cannot create \(folder.file("a:b")): Invalid argument; its file system may not allow a character"
            ), "\(outcome.errors)")
    }

    @Test func namesThatDifferInCaseAloneAreKnownBeforehand() throws {
        let corpus = try folder.write(
            SyntheticCorpus.jsonl(authors: ["Mary", "other", "mary"]), "names.jsonl")
        let job = Tool.arguments(
            corpus: corpus, layers: [1], saveDirectory: folder.file("out"))
        let outcome = try run(
            job, exits: 74, environment: try shim(["FAULT_NAMES": "fold:\(folder.path)"]))
        #expect(
            outcome.errors.contains("treats the names of authors 'Mary', 'mary' as one"),
            "\(outcome.errors)")
        #expect(computed(outcome) == 0)
        #expect(computed(try run(job)) > 0)
        #expect(
            try directoryContents(folder.file("out")).count { $0.contains("__tokens__") } == 3)
    }

    @Test func namesThatAreTooLongAreKnownBeforehand() throws {
        let author = String(repeating: "long", count: 30)
        let corpus = try folder.write(
            SyntheticCorpus.jsonl(authors: ["short", author]), "names.jsonl")
        let job = Tool.arguments(
            corpus: corpus, layers: [1], saveDirectory: folder.file("out"))
        let outcome = try run(
            job, exits: 74, environment: try shim(["FAULT_NAMES": "short:\(folder.path)"]))
        #expect(
            outcome.errors.contains("bytes (File name too long); files of author '\(author)'"),
            "\(outcome.errors)")
        #expect(computed(outcome) == 0)
    }

    // MARK: Synchronizing

    @Test(arguments: [
        "folder:EINVAL", "folder:ENOTSUP", "folder:ENOSYS", "folder:EBADF", "folder:EROFS",
        "open-folder:EACCES", "open-folder:EINVAL", "file:EINVAL", "file:ENOTSUP", "file:ENOSYS",
    ])
    func whatCannotBeSynchronizedIsNoError(fault: String) throws {
        try run(job("out"), environment: try shim(["FAULT_SYNC": fault]))
        try run(job("whole"))
        #expect(try results("out") == results("whole"))
    }

    @Test(arguments: ["folder:EIO", "file:EIO", "file:EROFS"])
    func aBrokenDiskIsAnError(fault: String) throws {
        let outcome = try run(
            job("out"), exits: 74, environment: try shim(["FAULT_SYNC": fault]))
        #expect(outcome.errors.contains("Error: cannot "), "\(outcome.errors)")
        #expect(computed(outcome) == 0)
    }

    // MARK: Space

    @Test(arguments: ["zero", "nosys"])
    func unknownSpaceIsNoError(fault: String) throws {
        let outcome = try run(job("out"), environment: try shim(["FAULT_SPACE": fault]))
        #expect(
            outcome.errors.components(separatedBy: "does not say how much space is free").count
                == 2,
            "\(outcome.errors)")
        let dry = try run(
            job("out", ["--dry_run"]), environment: try shim(["FAULT_SPACE": fault]))
        #expect(dry.output.contains("free: not known"), "\(dry.output)")
    }

    @Test(arguments: [
        ("small", "1.0 MB are free"), ("inodes", "has inodes for 0 more"),
    ])
    func aShortageIsRefusedUnlessItIsIgnored(fault: String, words: String) throws {
        let arguments = job("out", layers: [0, 1, 2, 3])
        let space = try shim(["FAULT_SPACE": fault])
        let refused = try run(arguments, exits: 74, environment: space)
        #expect(refused.errors.contains(words), "\(refused.errors)")
        #expect(refused.errors.contains("--ignore_free_space"))
        #expect(computed(refused) == 0 && !fileExists(folder.file("out")))
        let ignored = try run(arguments + ["--ignore_free_space"], environment: space)
        #expect(ignored.errors.contains("warning: --ignore_free_space: "), "\(ignored.errors)")
        // If all files of a run are complete, the run needs no space and must not be refused.
        #expect(computed(try run(arguments, environment: space)) == 0)
    }

    /// Checks a file system with too few inodes. A run must be refused before it computes. With
    /// `--ignore_free_space`, a run must fail later and say that no inodes are left.
    @Test(arguments: [30, 90])
    func tooFewInodesAreNamed(count: Int) throws {
        let target = try folder.make("few")
        let outcome = try run(
            job("few", layers: [0, 1, 2, 3]) + (count == 30 ? [] : ["--ignore_free_space"]),
            exits: 74,
            launcher: .mountNamespace(
                "mount -t tmpfs -o size=200m,nr_inodes=\(count) none '\(target)' && exec \"$@\""))
        #expect(outcome.errors.contains("inodes"), "\(outcome.errors)")
        #expect(outcome.errors.contains(count == 30 ? "files will be made" : "no inodes are left"))
        #expect((computed(outcome) == 0) == (count == 30))
    }
}
