// Tests of workers and ranks. They must not change the bytes of results, and a lost worker must be reported.

import Files
import Foundation
import Synchronization
import TestSupport
import Testing
import Tokenization

@testable import sae_extract

struct WorkerTests: UsingFolder {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// Returns the arguments of the fixture's main job with one document in each batch, so that ranks can divide the
    /// work.
    private func tiny(_ name: String) -> [String] {
        Tool.tinyArguments(saveDirectory: folder.file(name), batchSize: "1")
            + ["--storage_format", "both"]
    }

    // MARK: Same bytes

    /// The environment that selects OpenBLAS' kernel set for AVX-512. Empty if the processor lacks AVX-512.
    private static let wideKernels: [[String: String?]] = {
        let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
        let flags = Set(
            text.split(separator: "\n").first { $0.hasPrefix("flags") }?.split(separator: " ") ?? []
        )
        return flags.isSuperset(of: ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])
            ? [["OPENBLAS_CORETYPE": "SkylakeX"]] : []
    }()

    @Test(arguments: ParityTests.kernels + wideKernels)
    func workersThreadsAndRanksChangeNoByte(environment: [String: String?]) throws {
        try Tool.run(tiny("1"), exits: 0, environment: environment)
        let expected = try results("1")
        #expect(expected.count == 140)
        for workers in ["1", "2", "3", "5", "8"] {
            for threads in ["1", "2"] {
                try Tool.run(
                    tiny("w") + ["--workers", workers, "--threads", threads, "--overwrite"],
                    exits: 0,
                    environment: environment)
                #expect(try results("w") == expected, "\(workers) workers, \(threads) threads")
            }
        }
        for rank in ["2", "0", "3", "1"] {
            try Tool.run(
                tiny("r") + ["--rank", rank, "--world_size", "4"], exits: 0,
                environment: environment)
        }
        #expect(try results("r") == expected)
        // Three invocations, one after the other, with two workers each.
        for rank in ["0", "1", "2"] {
            try Tool.run(
                tiny("k") + ["--rank", rank, "--world_size", "3", "--workers", "2"], exits: 0,
                environment: environment)
        }
        #expect(try results("k") == expected)
    }

    /// Checks 7 simultaneous ranks for 5 authors, with the variables of different launchers.
    @Test func ranksAtOnceShareAuthors() throws {
        try Tool.run(tiny("1"), exits: 0)
        let ranks = try (0..<7).map { rank in
            let environment =
                switch rank % 4 {
                case 0: ["RANK": "\(rank)", "WORLD_SIZE": "7", "LOCAL_RANK": "\(rank)"]
                case 1: ["OMPI_COMM_WORLD_RANK": "\(rank)", "OMPI_COMM_WORLD_SIZE": "7"]
                case 2: ["PMI_RANK": "\(rank)", "PMI_SIZE": "7"]
                default:
                    ["SLURM_PROCID": "\(rank)", "SLURM_NTASKS": "7", "SLURM_STEP_ID": "0"]
                }
            return try RunningTool(tiny("r"), environment: environment)
        }
        for rank in ranks { #expect(rank.wait() == 0, "\(rank.log)") }
        #expect(try results("r") == results("1"))
        let own = try FileManager.default.subpathsOfDirectory(atPath: folder.file("r/.sae-extract"))
        #expect(!own.contains { $0.hasSuffix(".journal") || $0.hasSuffix(".partial") }, "\(own)")
        // Each of the 28 documents (one per batch) was computed once.
        #expect(
            ranks.reduce(0) { $0 + $1.events.count { $0.hasPrefix(#"{"batch""#) } } == 28)
    }

    @Test func sharingIsSaidInTheLog() throws {
        let outcome = try Tool.run(tiny("r") + ["--rank", "0", "--world_size", "8"], exits: 0)
        #expect(outcome.errors.contains("rank 0 of 8 (--rank)"))
        #expect(outcome.errors.contains("[rank 0] google/gemma-2-2b: 4 layers"))
        #expect(outcome.errors.contains("[rank 0] orchard: this rank's share is done"))
        #expect(outcome.errors.contains("of memory") && outcome.errors.contains("of mapped files"))
    }

    /// Checks that the last line says how many authors this rank had, at any log level.
    @Test(arguments: ["error", "critical", "info"])
    func aShareIsTheLastWord(level: String) throws {
        func last(_ rank: Int, of world: Int) throws -> String {
            let outcome = try Tool.run(
                tiny("r\(world)") + ["--log_level", level], exits: 0,
                environment: [
                    "SLURM_STEP_ID": "0", "SLURM_PROCID": "\(rank)",
                    "SLURM_STEP_NUM_TASKS": "\(world)",
                ])
            return outcome.errors.split(separator: "\n").last.map(String.init) ?? ""
        }
        #expect(
            try last(0, of: 2)
                == "rank 0 of 2 (srun) has 3 of 5 authors; the other ranks have the rest")
        #expect(try last(1, of: 2) == "rank 1 of 2 (srun) has 2 of 5 authors; all 5 are complete")
        // A rank without work must print the line too.
        #expect(try last(0, of: 2) == "rank 0 of 2 (srun) has 3 of 5 authors; all 5 are complete")
        #expect(
            try last(6, of: 8)
                == "rank 6 of 8 (srun) has a part of 1 of 5 authors; the other ranks have the rest")
    }

    // MARK: Lost workers

    private func long(_ documents: Int = 1000) throws -> [String] {
        Tool.arguments(
            corpus: try folder.write(SyntheticCorpus.jsonl(documents: documents), "c.jsonl"),
            layers: [0, 1, 2, 3], saveDirectory: folder.file("out"))
    }

    @Test func aKilledWorkerIsReportedAndTheOthersFinish() throws {
        let arguments = try long(400)
        let tool = try RunningTool(arguments + ["--workers", "2"])
        try #require(tool.waitForBatches(5, workers: 2))
        kill(tool.workers[0], SIGKILL)
        #expect(tool.wait() == 1)
        #expect(tool.log.contains("(cpu), author 'author "), "\(tool.log)")
        #expect(tool.log.contains("was ended by SIGKILL"))
        #expect(tool.log.contains("run the same command again to continue"))
        #expect(tool.events.contains { $0.hasPrefix(#"{"finished""#) }, "the other one finished")
        try Tool.run(arguments, exits: 0)
        try Tool.run(arguments.dropLast() + [folder.file("whole")], exits: 0)
        #expect(try results("out") == results("whole"))
    }

    /// Checks that a crash is reported as a crash. Swift's crash report interrupts the worker's read from the parent.
    /// The worker must not take this for the end of the parent.
    @Test func aCrashedWorkerIsReported() throws {
        let outcome = try Tool.run(
            try long(20) + ["--workers", "2"], exits: 1,
            environment: try shim([
                "FAULT_AT": "batch:9:SIGILL:\(folder.file("struck"))",
                "OPENBLAS_CORETYPE": "Haswell",
            ]))
        #expect(outcome.errors.contains("was ended by SIGILL"), "\(outcome.errors)")
        #expect(
            outcome.errors.contains(
                "the kernels of OPENBLAS_CORETYPE=Haswell; unset that variable"))
    }

    /// Checks that the parent keeps the message of a fatal error in Swift, whatever crash report follows.
    @Test func theFirstWordsOfACrashAreKept() {
        func words(_ lines: String) -> LastWords {
            lines.split(separator: "\n").reduce(into: LastWords()) { $0.add(String($1)) }
        }
        let report = """
            *** Signal 4: Backtracing from 0x55f8b74f731b... done ***

            *** Program crashed: Illegal instruction at 0x000055f8b74f731b ***

            Platform: x86_64 Linux

            Thread 0 "exe" crashed:

              0 [inlined] [system] 0x000055f8b74f731b Array.subscript.getter in sae-extract at //<compiler-generated>
              1 [inlined] 0x000055f8b74f731b slot(of:) in sae-extract at /a/MergeTable.swift:68:20
              2 0x000055f8b74f731b append + 251 in sae-extract at /a/MergeTable.swift:41:25
              3 0x000055f8b74f731b others

            Thread 1:

              0              0x00007f212a11a26f poll + 79 in libc.so.6

            Registers:
            rax 0x0000000000000400  1024
            """
        let said = "Swift/ContiguousArrayBuffer.swift:600: Fatal error: Index out of range"
        let whole = words("loading\nauthor a\nmore\n\(said)\n\(report)")
        #expect(whole.failure == said && whole.crashIsInSwift)
        #expect(
            whole.description.hasPrefix(
                "author a / more / \(said) / *** Program crashed: Illegal instruction at 0x"))
        #expect(
            whole.description.hasSuffix("append + 251 in sae-extract at /a/MergeTable.swift:41:25"))
        let silent = words("loading\n\(report)")
        #expect(silent.failure == nil && silent.crashIsInSwift)
        let elsewhere = words(
            report.replacing("0 [inlined] [system]", with: "0").replacing(
                "Array.subscript.getter in sae-extract at //<compiler-generated>",
                with: "sgemm_kernel + 12 in libopenblas.so.0"))
        #expect(!elsewhere.crashIsInSwift && elsewhere.description.contains("sgemm_kernel"))
        #expect(words("a\nb\nc").description == "b / c")
        #expect(words("").description == "")
        #expect(words("a\n\(said)\nb\nc").description == "a / \(said)")
    }

    /// Checks that a fatal error in Swift is reported as a bug, and not as an instruction that the processor lacks.
    @Test(arguments: ["SIGILL", "SIGABRT"])
    func aFailedCheckIsNotExplainedByTheProcessor(signal: String) throws {
        let outcome = try Tool.run(
            try long(20), exits: 1,
            environment: try shim([
                "FAULT_AT": "batch:3:\(signal):\(folder.file("struck"))",
                "FAULT_WORDS": "Extraction/X.swift:7: Fatal error: Index out of range",
                "OPENBLAS_CORETYPE": "Haswell",
            ]))
        #expect(
            outcome.errors.contains(
                "was ended by \(signal): a check within the program failed, which is a bug; please report it; it last said: "
            ), "\(outcome.errors)")
        #expect(outcome.errors.contains("X.swift:7: Fatal error: Index out of range"))
        #expect(!outcome.errors.contains("does not know an instruction"))
    }

    @Test func interruptedReadsAreNoEnd() throws {
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        // Without SA_RESTART, each signal interrupts the read.
        sigaction(SIGUSR2, &action, nil)
        let reading = DispatchSemaphore(value: 0)
        let thread = Mutex<pthread_t?>(nil)
        let line = Mutex<[UInt8]?>(nil)
        let descriptor = ends[0]
        Thread.detachNewThread {
            thread.withLock { $0 = pthread_self() }
            let found = LineReader(descriptor: descriptor).next()
            line.withLock { $0 = found }
            reading.signal()
        }
        for _ in 0..<20 {
            usleep(5000)
            if let thread = thread.withLock({ $0 }) { pthread_kill(thread, SIGUSR2) }
        }
        #expect(line.withLock { $0 } == nil)
        #expect(write(ends[1], "stop\n", 5) == 5)
        reading.wait()
        #expect(line.withLock { $0 } == Array("stop".utf8))
    }

    @Test func theParentsDeathEndsTheWorkers() throws {
        let tool = try RunningTool(try long() + ["--workers", "2"])
        try #require(tool.waitForBatches(5, workers: 2))
        let workers = tool.workers
        #expect(workers.count == 2)
        tool.send(SIGKILL)
        #expect(tool.wait() == -SIGKILL)
        let end = Date().addingTimeInterval(20)
        while workers.contains(where: { kill($0, 0) == 0 }), Date() < end { usleep(10_000) }
        #expect(workers.allSatisfy { kill($0, 0) != 0 })
    }

    @Test func aStoppedWorkerIsReported() throws {
        let tool = try RunningTool(
            try long() + ["--workers", "2"], environment: ["SAE_EXTRACT_STOPPED_SECONDS": "2"])
        try #require(tool.waitForBatches(5, workers: 2))
        kill(tool.workers[1], SIGSTOP)
        #expect(tool.wait() == 1)
        #expect(tool.log.contains("was stopped (SIGSTOP) for 2 seconds"), "\(tool.log)")
        #expect(tool.events.contains { $0.hasPrefix(#"{"finished""#) }, "the other one finished")
    }

    /// Checks the error if the checkpoint's file is cut short while workers have it mapped.
    @Test func aVanishedCheckpointIsReported() throws {
        let model = try folder.copy(TestData.tiny + "/model-single", "model")
        var arguments = try long()
        arguments.replace([TestData.tiny + "/model"], with: [model])
        let tool = try RunningTool(arguments)
        #expect(tool.waitForBatches(3))
        truncate(model + "/model.safetensors", 0)
        #expect(tool.wait() == 1)
        #expect(
            tool.log.contains("Error: worker (cpu), author 'author 0': was ended by SIGBUS"),
            "\(tool.log)")
        #expect(tool.log.contains("became shorter"))
        #expect(tool.log.contains("check --model_path"))
    }

    /// Checks a checkpoint that is overwritten in place during a run. Batches that were computed after the change
    /// must not count.
    @Test func aChangedCheckpointIsReported() throws {
        let model = try folder.copy(TestData.tiny + "/model-single", "model")
        let weights = model + "/model.safetensors"
        let good = try TestData.bytes(weights)
        var arguments = try long(200)
        arguments.replace([TestData.tiny + "/model"], with: [model])
        let tool = try RunningTool(arguments)
        #expect(tool.waitForBatches(3))
        func overwrite(_ bytes: [UInt8]) {
            let descriptor = open(weights, O_WRONLY)
            #expect(pwrite(descriptor, bytes, bytes.count, 0) == bytes.count)
            close(descriptor)
        }
        // The second half of the file becomes other numbers, all finite.
        overwrite(good[..<(good.count / 2)] + [UInt8](repeating: 0x3C, count: good.count / 2))
        #expect(tool.wait() == 65, "\(tool.log)")
        #expect(tool.log.contains("\(weights): was changed while this run used it"), "\(tool.log)")
        #expect(tool.log.contains("run the same command again"))
        overwrite(good)
        try Tool.run(arguments, exits: 0)
        try Tool.run(arguments.dropLast() + [folder.file("whole")], exits: 0)
        #expect(try results("out") == results("whole"))
    }

    /// Checks the error if the checkpoint changes after the parent has examined it and before a worker loads it.
    @Test func aCheckpointThatChangesBeforeItIsLoadedIsReported() throws {
        let model = try folder.copy(TestData.tiny + "/model-single", "model")
        var arguments = try long(50)
        arguments.replace([TestData.tiny + "/model"], with: [model])
        let tool = try startPaused(arguments, at: "load:1")
        try TestData.write(
            try TestData.bytes(TestData.tiny + "/model-single/model.safetensors"),
            to: model + "/model.safetensors")
        #expect(tool.wait() == 65, "\(tool.log)")
        #expect(tool.log.contains("model.safetensors: was changed while this run used it"))
    }

    /// Checks that a run under a memory limit that is too low (`ulimit -v`) reports the limit.
    @Test(.enabled(if: Tool.hasLimits)) func cappedMemoryIsReported() throws {
        let arguments = try long(20) + ["--threads", "1"]
        var reports: [Int32: Int] = [:]
        for limit in stride(from: 200_000, through: 600_000, by: 50_000) {
            let outcome = try Tool.run(arguments + ["--overwrite"], launcher: .limit("-v \(limit)"))
            reports[outcome.status, default: 0] += 1
            guard outcome.status != 0 else { continue }
            #expect(
                ["ulimit -v", "memory"].contains(where: outcome.errors.contains),
                "\(limit): \(outcome.status) \(outcome.errors)")
        }
        #expect(reports.keys.sorted() == [0, 74], "\(reports)")
    }

    /// Runs `scripts/checks/crash`, which kills runs and compares their results with those of an uninterrupted run.
    @Test func killedRunsComeToTheSameEnd() throws {
        let outcome = try TestCommand.run(
            [
                "python3", TestData.packageRoot + "/scripts/checks/crash", "--kills", "12",
                "--seconds", "2", "--binary", Tool.path,
            ], environment: Tool.environment([:]))
        let text = outcome.output + outcome.errors
        #expect(outcome.status == 0, "\(text)")
        #expect(text.contains("every byte as in the uninterrupted run"), "\(text)")
    }

    @Test func aWorkerWithoutATaskSaysSo() throws {
        let outcome = try Tool.run(["__worker"], exits: 64)
        #expect(outcome.errors.contains("standard input has no task"))
    }
}
