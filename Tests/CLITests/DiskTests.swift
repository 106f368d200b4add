// Tests of disks that are full, broken or read-only, and of folders and journals that are removed during a run.

import Files
import Foundation
import TestSupport
import Testing

struct DiskTests: Resuming {
    let folder: TemporaryFolder
    let corpus: String

    /// Checks a run that fails because its journal reaches the limit on file sizes (`ulimit -f`). The next run must
    /// not compute finished batches again.
    @Test func aFullDiskLosesNothing() throws {
        try run(job("whole", layers: [0, 1, 2, 3]))
        // The journal grows by about 60 kB for each batch, so it reaches the limit before any other file.
        let full = try run(
            job("out", layers: [0, 1, 2, 3], ["--workers", "1"]), exits: 74,
            launcher: .limit("-f 500"))
        #expect(
            full.errors.contains("File too large")
                && full.errors.contains("run the same command again"))
        let done = computed(full)
        #expect(done > 0 && done < 20, "\(done)")
        let outcome = try run(job("out", layers: [0, 1, 2, 3]))
        #expect(computed(outcome) == 20 - done)
        #expect(try results("out") == results("whole", layers: 4))
    }

    /// Checks files that cannot be memory-mapped. The program must read them, and print only one message.
    @Test(arguments: [
        (ENODEV, ""), (EINVAL, ".safetensors"), (EPERM, "params.npz"), (EOPNOTSUPP, ".json"),
    ])
    func filesThatCannotBeMapped(code: Int32, part: String) throws {
        let expected = folder.file("expected")
        let mapped = try Tool.run(Tool.tinyArguments(saveDirectory: expected))
        #expect(mapped.status == 0 && !mapped.errors.contains("cannot be mapped"))
        let outcome = try Tool.run(
            Tool.tinyArguments(saveDirectory: folder.file("out")) + ["--workers", "2"], exits: 0,
            environment: try shim(["FAULT_MAP": "\(code):\(part.isEmpty ? TestData.tiny : part)"]))
        #expect(
            outcome.errors.components(separatedBy: "cannot be mapped").count == 2,
            "\(outcome.errors)")
        #expect(try results("out") == Tool.results(in: expected))
    }

    @Test func memoryThatLacksIsNoReasonToRead() throws {
        let outcome = try Tool.run(
            Tool.tinyArguments(saveDirectory: folder.file("out")), exits: 74,
            environment: try shim(["FAULT_MAP": "\(ENOMEM):.safetensors"]))
        #expect(outcome.errors.contains("cannot map"))
        #expect(outcome.errors.contains("raise the memory limit"))
    }

    /// Checks a system call that fails during a run. The next run must not compute finished batches again.
    @Test(arguments: [
        ("append:5:ENOSPC", "No space left on device"), ("append:5:EIO", "Input/output error"),
        ("sync:2:EIO", "Input/output error"), ("write:9:ENOSPC", "No space left on device"),
        ("write:12:EIO", "Input/output error"), ("rename-before:3:EIO", "Input/output error"),
    ])
    func aFailingCallLosesNothing(fault: String, reason: String) throws {
        try run(job("whole"))
        let failed = try run(
            job("out"), exits: 74,
            environment: try shim(["FAULT_AT": "\(fault):\(folder.file("struck"))"]))
        #expect(fileExists(folder.file("struck")))
        #expect(failed.errors.contains("Error: cannot "), "\(failed.errors)")
        #expect(failed.errors.contains("\(reason); ") && failed.errors.contains(folder.file("out")))
        #expect(failed.errors.contains("run the same command again"))
        let outcome = try run(job("out"))
        #expect(computed(failed) > 0)
        #expect(computed(outcome) == 20 - computed(failed))
        #expect(try results("out") == results("whole"))
        #expect(try own(".journal") == [] && own(".partial") == [])
    }

    /// Checks that no finished batch is lost when another process fills the file system during the run.
    @Test func aDiskThatFillsUpLosesNothing() throws {
        let corpus = try folder.write(SyntheticCorpus.jsonl(documents: 150), "long.jsonl")
        func job(_ name: String) -> [String] {
            Tool.arguments(
                corpus: corpus, layers: [0, 1, 2, 3], saveDirectory: folder.file(name))
                + ["--storage_format", "sparse"]
        }
        let script = """
            mount -t tmpfs -o size=150m none full || exit 99
            "$@" &
            until [ -n "$(find full -name '*.journal')" ]; do kill -0 $! || exit 98; sleep 0.005; done
            head -c 200m /dev/zero > full/filler 2> /dev/null
            wait $!
            code=$?
            rm full/filler
            cp -r full out
            exit $code
            """
        try folder.make("full")
        let full = try run(
            job("full"), exits: 74, launcher: .mountNamespace("cd '\(folder.path)'\n" + script))
        #expect(
            full.errors.contains("No space left on device; free some space"), "\(full.errors)")
        let outcome = try run(job("out"))
        #expect(computed(outcome) == 75 - computed(full))
        try run(job("whole"))
        #expect(try results("out") == results("whole"))
    }

    private func results(_ name: String, layers: Int) throws -> [String: [UInt8]] {
        let found = try results(name)
        #expect(found.count == 5 * (4 + 3 * layers))
        return found
    }

    @Test func tooLittleSpaceIsSeenBeforeTheStart() throws {
        // Mounts a file system of 300 kB in a separate mount namespace.
        let target = try folder.make("small")
        let outcome = try run(
            job("small", layers: [0, 1, 2, 3]), exits: 74,
            launcher: .mountNamespace("mount -t tmpfs -o size=300k none '\(target)' && exec \"$@\"")
        )
        #expect(outcome.errors.contains("will be written, but"), "\(outcome.errors)")
        #expect(outcome.errors.contains("free some space"))
        #expect(computed(outcome) == 0)
    }

    @Test func aDryRunSaysThatTheDiskIsTooFull() throws {
        let target = try folder.make("small")
        let outcome = try run(
            job("small", layers: [0, 1, 2, 3], ["--dry_run"]), exits: 74,
            launcher: .mountNamespace("mount -t tmpfs -o size=300k none '\(target)' && exec \"$@\"")
        )
        #expect(outcome.output.contains("to be written: about"))
        #expect(outcome.errors.contains("will be written, but"), "\(outcome.errors)")
    }

    @Test(arguments: [("/dev/full", 74), ("/dev/null", 0)])
    func standardOutputThatCannotBeWrittenIsAnError(path: String, status: Int32) throws {
        let outcome = try run(
            job("out", ["--dry_run"]), exits: status, launcher: .shell("exec \"$@\" > \(path)"))
        if status != 0 {
            #expect(
                outcome.errors.contains("cannot write standard output: No space left on device"),
                "\(outcome.errors)")
        }
    }

    @Test func aReadOnlyFolderIsAnError() throws {
        let target = try folder.make("locked")
        chmod(target, 0o555)
        let outcome = try run(job("locked"), exits: 74, launcher: .withoutPrivilege)
        #expect(outcome.errors.contains("cannot create \(target)"), "\(outcome.errors)")
        #expect(outcome.errors.contains("permissions"))
        chmod(target, 0o755)
    }

    /// Checks a run whose `save_dir` disappears. The run must fail. The same command must then make all results.
    @Test func aVanishedFolderIsAnError() throws {
        let tool = try RunningTool(job("out", layers: [0, 1, 2, 3]))
        #expect(tool.waitForBatches(4))
        // Moves the folder with one rename. The run could create files while the files were removed one by one.
        try FileManager.default.moveItem(
            atPath: folder.file("out"), toPath: folder.file("vanished"))
        #expect(tool.wait() == 74, "\(tool.log)")
        #expect(tool.log.contains("Error: "))
        try run(job("out", layers: [0, 1, 2, 3]))
        try run(job("whole", layers: [0, 1, 2, 3]))
        #expect(try results("out") == results("whole"))
    }

    /// Checks that a run fails if its journal is removed. The batches in a removed journal would be lost.
    @Test func aVanishedJournalIsAnError() throws {
        let tool = try RunningTool(job("out", layers: [0, 1, 2, 3]))
        #expect(tool.waitForBatches(2))
        try FileManager.default.removeItem(atPath: try #require(try own(".journal").first))
        #expect(tool.wait() == 74, "\(tool.log)")
        #expect(tool.log.contains(".journal was removed during this run"), "\(tool.log)")
        #expect(tool.log.contains("run the same command again"))
        try run(job("out", layers: [0, 1, 2, 3]))
        try run(job("whole", layers: [0, 1, 2, 3]))
        #expect(try results("out") == results("whole"))
    }
}
