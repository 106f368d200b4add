// Tests of signals that stop a run, and of the run that continues it later.

import ByteJSON
import Files
import Foundation
import TestSupport
import Testing

struct SignalTests: UsingFolder {
    let folder: TemporaryFolder
    private let arguments: [String]

    init() throws {
        folder = try TemporaryFolder()
        arguments = Tool.arguments(
            corpus: try folder.write(SyntheticCorpus.jsonl(documents: 120), "c.jsonl"),
            layers: [0, 1, 2, 3], saveDirectory: folder.file("out"))
    }

    @Test(arguments: [SIGTERM, SIGINT, SIGUSR1], ["1", "2"])
    func theBatchInHandIsFinished(signal: Int32, workers: String) throws {
        let names = [SIGTERM: "SIGTERM", SIGINT: "SIGINT", SIGUSR1: "SIGUSR1"]
        let tool = try RunningTool(arguments + ["--workers", workers])
        #expect(tool.waitForBatches(7))
        tool.send(signal)
        #expect(tool.wait() == 75, "\(tool.log)")
        #expect(tool.log.contains("\(names[signal]!): finishing the current batches"))
        #expect(tool.log.contains("stopped by \(names[signal]!)"))
        #expect(tool.log.contains("run the same command again to continue"))
        let before = Set(tool.events.filter { $0.hasPrefix(#"{"batch""#) })
        let again = try RunningTool(arguments + ["--workers", workers])
        #expect(again.wait() == 0, "\(again.log)")
        let after = again.events.filter { $0.hasPrefix(#"{"batch""#) }
        #expect(before.isDisjoint(with: after), "a finished batch was computed again")
        #expect(before.count + after.count == 60)
        try Tool.run(arguments.dropLast() + [folder.file("whole")], exits: 0)
        #expect(try results("out") == results("whole"))
    }

    /// Checks that several copies of a signal count as one. Schedulers send them to every process of a job.
    @Test func signalsToAllProcessesAreOne() throws {
        let tool = try RunningTool(arguments + ["--workers", "2"])
        #expect(tool.waitForBatches(7, workers: 2))
        for process in tool.workers + [tool.identifier] { kill(process, SIGTERM) }
        tool.send(SIGTERM)
        #expect(tool.wait() == 75, "\(tool.log)")
        #expect(!tool.log.contains("Error"), "\(tool.log)")
    }

    /// Checks that `run.json` records a signal that arrives before the first worker starts.
    @Test func aSignalBeforeTheFirstWorkerIsRecorded() throws {
        let mark = folder.file("waiting")
        let tool = try RunningTool(
            arguments, environment: try shim(["FAULT_WAIT": "run.json:1:\(mark)"]))
        #expect(tool.wait { _ in fileExists(mark) })
        tool.send(SIGTERM)
        #expect(tool.wait { $0.log.contains("SIGTERM: finishing the current batches") })
        try FileManager.default.removeItem(atPath: mark)
        #expect(tool.wait() == 75, "\(tool.log)")
        #expect(try recordedRuns("out").map { $0["outcome"] } == [.string("stopped")])
    }

    @Test func aSecondInterruptDoesNotWait() throws {
        let tool = try RunningTool(arguments + ["--workers", "2"])
        #expect(tool.waitForBatches(7, workers: 2))
        // SIGSTOP prevents the workers from reacting to SIGINT.
        for worker in tool.workers { kill(worker, SIGSTOP) }
        tool.send(SIGINT)
        #expect(tool.wait { $0.log.contains("finishing the current batches") })
        tool.send(SIGINT)
        #expect(tool.wait() == 75, "\(tool.log)")
        for worker in tool.workers { kill(worker, SIGKILL) }
    }

    /// Checks SIGTERM and then two interrupts (SIGINT). The second interrupt must end the run without waiting for the
    /// workers.
    @Test func aSecondInterruptAfterAnotherSignalDoesNotWait() throws {
        let tool = try RunningTool(arguments + ["--workers", "2"])
        #expect(tool.waitForBatches(7, workers: 2))
        for worker in tool.workers { kill(worker, SIGSTOP) }
        tool.send(SIGTERM)
        #expect(tool.wait { $0.log.contains("finishing the current batches") })
        tool.send(SIGINT)
        usleep(200_000)
        tool.send(SIGINT)
        #expect(tool.wait() == 75, "\(tool.log)")
        for worker in tool.workers { kill(worker, SIGKILL) }
    }

    /// Checks that a stopped run advises the same command at any log level. The advice must exclude --overwrite,
    /// which would remove all results.
    @Test func theAdviceHoldsAtAnyLogLevel() throws {
        let tool = try RunningTool(arguments + ["--overwrite"])
        #expect(tool.waitForBatches(3))
        tool.send(SIGTERM)
        #expect(tool.wait() == 75)
        #expect(tool.log.contains("run the same command again without --overwrite to continue"))
        let script = """
            "$@" --log_level error & until [ -n "$(find '\(folder.file("out"))' -name '*.journal')" ]
            do sleep 0.01; done; sleep 0.3; kill -TERM $!; wait $!
            """
        let quiet = try Tool.run(
            arguments.dropLast() + [folder.file("out/quiet")], exits: 75,
            launcher: .shell(script.replacing("/out'", with: "/out/quiet'")))
        #expect(quiet.errors.contains("run the same command again to continue"), "\(quiet.errors)")
    }

    /// Checks that a run waits for its workers if its launcher ignores SIGCHLD. Child processes inherit this setting.
    @Test func ignoredChildrenAreWaitedFor() throws {
        try Tool.run(
            arguments + ["--n_docs", "5"], exits: 0,
            launcher: [
                "/usr/bin/env", "python3", "-c",
                "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])",
            ])
    }
}
