// Tests of runs in a folder with earlier results: the results are kept or made again, or the run is refused.

import ByteJSON
import Files
import Foundation
import TestSupport
import Testing

struct ResumeTests: Resuming {
    let folder: TemporaryFolder
    let corpus: String

    // MARK: Adding

    @Test func layersSitesAndFormatsAreAdded() throws {
        try run(job("out", ["--layer_types", "res"]))
        let first = try results("out")
        let dates = try modificationDates("out")
        // Adds another layer, then the other sites, then the other format.
        let second = try run(job("out", layers: [1, 3], ["--layer_types", "res"]))
        #expect(computed(second) == 20)
        try run(job("out", layers: [3, 1]))
        try run(job("out", layers: [1, 3], ["--storage_format", "both"]))
        #expect(try results("out").filter { first[$0.key] != nil } == first)
        #expect(try modificationDates("out").filter { first[$0.key] != nil } == dates)
        try run(job("whole", layers: [1, 3], ["--storage_format", "both"]))
        #expect(try results("out") == results("whole"))
        // All files of this run exist, so nothing is computed.
        #expect(computed(try run(job("out", layers: [1], ["--storage_format", "sparse"]))) == 0)
        #expect(try own(".journal") == [])
    }

    private func modificationDates(_ name: String) throws -> [String: Date] {
        var dates: [String: Date] = [:]
        for file in try directoryContents(folder.file(name)) where file.hasPrefix("sae__") {
            let attributes = try FileManager.default.attributesOfItem(
                atPath: folder.file("\(name)/\(file)"))
            dates[file] = attributes[.modificationDate] as? Date
        }
        return dates
    }

    /// Checks that a run for one layer uses the batches in the journal of a stopped run for four layers.
    @Test func aJournalServesAnotherChoiceOfLayers() throws {
        try stopHalfway(job("out", layers: [0, 1, 2, 3]))
        let journaled = 10
        let outcome = try run(job("out", layers: [2]))
        #expect(computed(outcome) <= 20 - journaled)
        try run(job("whole", layers: [2]))
        let expected = try results("whole")
        #expect(try results("out").filter { expected[$0.key] != nil } == expected)
        // The run for one layer must not remove the journal, because a later run for all layers can still use it.
        #expect(try own(".journal").count >= 1)
        let rest = try run(job("out", layers: [0, 1, 2, 3]))
        #expect(computed(rest) <= 20 - journaled)
        try run(job("all", layers: [0, 1, 2, 3]))
        #expect(try results("out") == results("all"))
        #expect(try own(".journal") == [])
    }

    // MARK: Refusing

    static let differences: [([String], String)] = [
        (["--max_seq_len", "100"], "--max_seq_len: 360 in the other run, 100 in this run"),
        (["--prefix", "x"], "--prefix: '' in the other run, 'x' in this run"),
        (
            ["--feature_threshold", "1.5"],
            "--feature_threshold: 1.0 in the other run, 1.5 in this run"
        ),
        (
            ["--activation_values", "raw"],
            "--activation_values: binary in the other run, raw in this run"
        ),
        (
            ["--batch_size", "auto"],
            "--batch_size: 2 in the other run, auto (1000 tokens) in this run"
        ),
        (["--n_docs", "7"], "--n_docs: none in the other run, 7 in this run"),
        (
            ["--exclude_authors", "author 1"],
            "--exclude_authors: [] in the other run, [\"author 1\"] in this run"
        ),
        (
            ["--sae_id", "res:layer_1/width_16k/average_l0_97"],
            "SAE of blocks.1.hook_resid_post: layer_1/width_16k/average_l0_40"
        ),
        (
            ["--model", "google/gemma-2-2b", "--model_path", TestData.tiny + "/model-single"],
            "checkpoint's model.safetensors"
        ),
    ]

    @Test(arguments: differences)
    func anotherConfigurationIsRefused(extra: [String], mention: String) throws {
        try run(job("out"))
        let before = try results("out")
        var arguments = job("out", extra)
        if extra.contains("--sae_id") {
            let trees = try directoryContents(
                TestData.tiny + "/sae/gemma-scope-2b-pt-res/layer_1/width_16k")
            let other = try #require(trees.first { !$0.hasSuffix("_40") })
            arguments[arguments.count - 1] = "res:layer_1/width_16k/\(other)"
        }
        let outcome = try run(arguments, exits: 78)
        #expect(outcome.errors.contains(mention), "\(outcome.errors)")
        #expect(outcome.errors.contains("--overwrite") && outcome.errors.contains("--save_dir"))
        #expect(try run(arguments + ["--dry_run"], exits: 78).errors.contains(mention))
        #expect(try results("out") == before)
        // The first command must still find its results complete. With --overwrite, the new settings must be
        // accepted.
        #expect(computed(try run(job("out"))) == 0)
        #expect(computed(try run(arguments + ["--overwrite"])) > 0)
    }

    @Test func allDifferencesAreNamed() throws {
        try run(job("out"))
        let outcome = try run(
            job("out", ["--max_seq_len", "99", "--n_docs", "7", "--prefix", "y"]), exits: 78)
        for part in ["corpus:", "--n_docs:", "--max_seq_len:", "--prefix:"] {
            #expect(outcome.errors.contains("  \(part)"), "\(outcome.errors)")
        }
    }

    @Test func pathsAndThreadsAreNotCompared() throws {
        try run(job("out"))
        let saes = try folder.copy(TestData.tiny + "/sae", "moved")
        let text = try TestData.bytes(corpus)
        let other = try folder.write(text, "other.jsonl")
        // `--n_docs 40` is another selection, but it gives the same documents.
        let outcome = try run([
            "--layers", "1", "--model_path", TestData.tiny + "/model", "--sae_dir", saes,
            "--data_path", other, "--n_docs", "40", "--workers", "2", "--threads", "1",
            "--save_dir",
            folder.file("out"),
        ])
        #expect(computed(outcome) == 0)
    }

    @Test func labelsLiveSideBySide() throws {
        try run(job("out"))
        let before = try results("out")
        try run(
            job(
                "out",
                [
                    "--model", "google/gemma-2-9b", "--sae_dir", TestData.tiny + "/sae-lens",
                    "--layers",
                    "2", "--model_path", TestData.tiny + "/model-single", "--max_seq_len", "64",
                ]))
        let after = try results("out")
        #expect(after.count == before.count + 5 * 7)
        #expect(after.filter { before[$0.key] != nil } == before)
    }

    /// Checks a file that has the name of a result but no receipt. The run must be refused and must keep the file.
    @Test func unknownFilesAreNotReplaced() throws {
        let name = "sae__google_gemma-2-2b__tokens__author 3.json"
        try folder.write("mine".utf8, "out/\(name)")
        for extra in [[], ["--dry_run"]] {
            let outcome = try run(job("out", extra), exits: 78)
            #expect(
                outcome.errors.contains(
                    "\(name): present, but nothing in .sae-extract says"),
                "\(outcome.errors)")
            #expect(outcome.errors.contains("--overwrite") && outcome.errors.contains("--save_dir"))
        }
        #expect(try TestData.bytes(folder.file("out/\(name)")) == Array("mine".utf8))
        try run(job("out", ["--overwrite"]))
        try run(job("whole"))
        #expect(try results("out") == results("whole"))
    }

    // MARK: Overwriting

    @Test func overwriteRemovesThisPlansFilesOnly() throws {
        try run(job("out", layers: [1, 2]))
        try folder.write("mine".utf8, "out/notes.txt")
        let outcome = try run(job("out", layers: [1], ["--max_seq_len", "64", "--overwrite"]))
        #expect(outcome.errors.contains("15 files of google/gemma-2-2b"), "\(outcome.errors)")
        #expect(fileExists(folder.file("out/notes.txt")))
        try run(job("whole", layers: [1], ["--max_seq_len", "64"]))
        let expected = try results("whole")
        #expect(try results("out").filter { expected[$0.key] != nil } == expected)
        #expect(try results("out").count == expected.count + 15 + 1)
    }

    @Test func overwriteIsNotForRanks() throws {
        let outcome = try run(
            job("out", ["--overwrite", "--rank", "0", "--world_size", "2"]), exits: 64)
        #expect(
            outcome.errors.contains(
                "--overwrite: cannot be given if a run has several ranks (this is rank 0 of 2)"))
        #expect(outcome.errors.contains("before you start the ranks"))
        let srun = ["SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"]
        try run(job("out", ["--overwrite"]), exits: 64, environment: srun)
    }

    @Test func overwriteIsNotForTasksOfAnArray() throws {
        try run(job("out"))
        let before = try results("out")
        let array = ["SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"]
        let outcome = try run(job("out", ["--overwrite"]), exits: 64, environment: array)
        #expect(outcome.errors.contains("--overwrite: cannot be given to the tasks of an array"))
        #expect(try results("out") == before)
    }

    /// Checks that a refused run with --overwrite removes no earlier results.
    @Test func aRefusedRunRemovesNothing() throws {
        try run(job("out"))
        let before = try results("out")
        let prefix = String(repeating: "word ", count: 600)
        let refused = try run(job("out", ["--overwrite", "--prefix", prefix]), exits: 64)
        #expect(refused.errors.contains("--prefix"))
        #expect(try results("out") == before)
        let entries = folder.file("out/.sae-extract/runs")
        try FileManager.default.moveItem(atPath: entries, toPath: folder.file("runs"))
        try TestData.write("{}".utf8, to: folder.file("out/run.json"))
        for extra in [["--overwrite"], ["--dry_run"]] {
            let outcome = try run(job("out", extra), exits: 64)
            #expect(outcome.errors.contains("was not written by sae-extract or is damaged"))
        }
        #expect(try results("out") == before)
    }

    @Test func aRequeuedJobDoesNotOverwrite() throws {
        try stopHalfway(job("out"))
        let outcome = try run(
            job("out", ["--overwrite"]), environment: ["SLURM_RESTART_COUNT": "1"])
        #expect(outcome.errors.contains("warning: --overwrite is ignored"))
        #expect(computed(outcome) <= 10)
    }

    // MARK: Damage

    /// Checks that a deleted file is made again: from journals if there are any, otherwise by computing the author
    /// again.
    @Test func aDeletedFileIsMadeAgain() throws {
        try run(job("whole"))
        let name = "sae__google_gemma-2-2b__mlp__activations__author 2__layer_1.npz"
        // Stops the run when author 2 is complete and later authors are not.
        let tool = try RunningTool(job("out"))
        #expect(tool.wait { $0.events.count { $0.hasPrefix(#"{"authorDone""#) } >= 3 })
        tool.send(SIGTERM)
        if tool.wait() == 75 {
            try FileManager.default.removeItem(atPath: folder.file("out/\(name)"))
            let outcome = try run(job("out"))
            #expect(!outcome.errors.contains(#"{"batch":{"author":2,"#), "\(outcome.errors)")
            #expect(try results("out") == results("whole"))
        }
        try FileManager.default.removeItem(atPath: folder.file("out/\(name)"))
        let outcome = try run(job("out"))
        #expect(computed(outcome) == 4)
        #expect(try results("out") == results("whole"))
    }

    @Test func aChangedFileIsMadeAgain() throws {
        try run(job("out"))
        let before = try results("out")
        for (name, change) in [
            ("sae__google_gemma-2-2b__tokens__author 0.json", { $0 + [0x20] }),
            (
                "sae__google_gemma-2-2b__res__activations__author 3__layer_1.npz",
                { bytes in bytes.enumerated().map { $0 == bytes.count / 2 ? $1 ^ 1 : $1 } }
            ),
        ] as [(String, ([UInt8]) -> [UInt8])] {
            try TestData.write(change(before[name]!), to: folder.file("out/\(name)"))
            let outcome = try run(job("out"))
            #expect(outcome.errors.contains("\(name) has changed since it was written"))
            #expect(computed(outcome) == 4)
            #expect(try results("out") == before)
        }
    }

    /// Checks that a run fails if a file of a complete author is removed while later authors are computed.
    @Test func aFileThatVanishesMeanwhileIsNoSuccess() throws {
        let name = "sae__google_gemma-2-2b__tokens__author 0.json"
        let tool = try RunningTool(job("out", layers: [0, 1, 2, 3]))
        #expect(tool.wait { _ in fileExists(folder.file("out/\(name)")) })
        #expect(tool.wait { $0.events.contains { $0.hasPrefix(#"{"authorDone""#) } })
        try FileManager.default.removeItem(atPath: folder.file("out/\(name)"))
        #expect(tool.wait() == 74, "\(tool.log)")
        #expect(
            tool.log.contains("\(name): missing or changed at the end of the run"), "\(tool.log)")
        #expect(tool.log.contains("run the same command again"))
        let again = try run(job("out", layers: [0, 1, 2, 3]))
        #expect(computed(again) == 0, "the journals still have it")
        try run(job("whole", layers: [0, 1, 2, 3]))
        #expect(try results("out") == results("whole"))
    }

    /// Checks a changed file in a run with two ranks, in this order:
    /// 1. Rank 1 notices that a file has changed, removes it, and begins to make it again.
    /// 2. Rank 0 ends. It must not remove the journals, because the file is missing.
    /// 3. Rank 1 puts the file in place and removes the journals.
    @Test func aChangedFileIsMadeAgainByItsRank() throws {
        try run(job("out", layers: [0, 1, 2, 3]))
        let before = try results("out")
        let name = "sae__google_gemma-2-2b__res__activations__author 1__layer_0.npz"
        var bytes = before[name]!
        bytes[bytes.count / 2] ^= 1
        try TestData.write(bytes, to: folder.file("out/\(name)"))
        let ranks = ["--world_size", "2", "--rank"]
        let other = try RunningTool(job("out", layers: [0, 1, 2, 3], ranks + ["1"]))
        #expect(other.wait { $0.log.contains("the run writes it again") })
        try run(job("out", layers: [0, 1, 2, 3], ranks + ["0"]))
        #expect(other.wait() == 0, "\(other.log)")
        #expect(try results("out") == before)
        #expect(try own(".journal") == [])
    }

    /// Checks that an empty run.json is made again from the entries in `.sae-extract`.
    @Test func aDamagedManifestIsMadeAgain() throws {
        try run(job("out"))
        try TestData.write([], to: folder.file("out/run.json"))
        try run(job("out"))
        #expect(try recordedRuns("out").count == 2)
    }

    @Test(arguments: [0.3, 0.6, 0.99])
    func aDamagedJournalCostsItsBatches(place: Double) throws {
        try run(job("whole"))
        try stopHalfway(job("out"))
        let path = try #require(try own(".journal").first)
        var bytes = try TestData.bytes(path)
        bytes[Int(Double(bytes.count) * place)] ^= 1
        try TestData.write(bytes, to: path)
        let outcome = try run(job("out"))
        #expect(
            outcome.errors.contains("the missing batches are computed again"), "\(outcome.errors)")
        #expect(try results("out") == results("whole"))
        // Cuts off the end of the last record, as a crash of the machine may do.
        try stopHalfway(job("torn"))
        let torn = try #require(try own(".journal", in: "torn").first)
        let size = try TestData.bytes(torn).count
        truncate(torn, size - size / 20)
        try run(job("torn"))
        #expect(try results("torn") == results("whole"))
    }

    @Test func damagedReceiptsAreWorthless() throws {
        try run(job("out"))
        let before = try results("out")
        for path in try own(".receipts") { try TestData.write("{\n".utf8, to: path) }
        #expect(computed(try run(job("out"))) == 20)
        #expect(try results("out") == before)
    }

    // MARK: Simultaneous runs

    @Test func twoRunsAtOnceDoNoHarm() throws {
        let jobs = [[0, 1], [0, 1], [1, 2]].map { job("out", layers: $0) }
        let tools = try jobs.map { try RunningTool($0) }
        for tool in tools { #expect(tool.wait() == 0, "\(tool.log)") }
        try run(job("whole", layers: [0, 1, 2]))
        #expect(try results("out") == results("whole"))
        let runs = try recordedRuns("out")
        #expect(runs.count == 3 && runs.allSatisfy { $0["outcome"] == .string("done") })
        #expect(try own(".journal") == [] && own(".partial") == [])
    }

    /// Checks that `run.json` has the newest entry of another invocation, in this order:
    /// 1. This run reads the other invocation's entry, and waits before it renames `run.json`.
    /// 2. The other invocation ends and changes its entry.
    /// 3. This run continues. It must write the changed entry to `run.json`.
    @Test func anEntryThatChangesMeanwhileIsReadAgain() throws {
        func place(_ outcome: String) throws {
            try folder.write(
                #"{"id": "other", "outcome": "\#(outcome)"}"#.utf8,
                "out/.sae-extract/runs/other.json")
        }
        try place("unfinished")
        let mark = folder.file("waiting")
        // A run renames `run.json` when it begins and when it ends. This run waits before the second rename.
        let tool = try RunningTool(
            job("out", layers: [0]), environment: try shim(["FAULT_WAIT": "run.json:2:\(mark)"]))
        #expect(tool.wait { _ in fileExists(mark) })
        try place("done")
        try FileManager.default.removeItem(atPath: mark)
        #expect(tool.wait() == 0, "\(tool.log)")
        let runs = try recordedRuns("out")
        #expect(runs.count == 2 && runs.allSatisfy { $0["outcome"] == .string("done") })
    }

    /// Checks two simultaneous runs with different settings in one folder. The second run must be refused.
    @Test func twoConfigurationsAtOnceDoNotMix() throws {
        let a = try RunningTool(job("out", layers: [0, 1, 2, 3]))
        #expect(a.waitForBatches(2))
        let b = try RunningTool(job("out", layers: [0, 1, 2, 3], ["--max_seq_len", "50"]))
        #expect(b.wait() == 78, "\(b.log)")
        #expect(a.wait() == 0, "\(a.log)")
        try run(job("whole", layers: [0, 1, 2, 3]))
        #expect(try results("out") == results("whole"))
    }

    /// Checks two runs with different settings in one folder, in this order:
    /// 1. The first run begins, and pauses before it has results.
    /// 2. The second run begins and completes.
    /// 3. The first run continues. It must end with exit code 78 and leave no results.
    @Test func theLaterOfTwoConfigurationsGoesOn() throws {
        // The first run pauses while it loads its checkpoint, as if the checkpoint were large.
        let first = try startPaused(job("out", ["--feature_threshold", "2"]), at: "load:1")
        try run(job("out", layers: [0, 1, 2, 3]))
        #expect(first.wait() == 78, "\(first.log)")
        #expect(
            first.log.contains("--feature_threshold: 1.0 in the other run, 2.0 in this run"),
            "\(first.log)")
        #expect(!first.log.contains("to continue"))
        #expect(computed(try run(job("out", layers: [0, 1, 2, 3]))) == 0)
        try run(job("whole", layers: [0, 1, 2, 3]))
        #expect(try results("out") == results("whole"))
    }

    /// Checks two runs in one folder that differ only in the SAE. The second run completes while the first pauses.
    /// The first run must then end with exit code 78, and must not use the features of the second.
    @Test func anotherSAEsFilesAreNotTakenForOnesOwn() throws {
        let first = try startPaused(job("out", ["--target_l0", "60"]), at: "load:1")
        try run(job("out", ["--target_l0", "40"]))
        #expect(first.wait() == 78, "\(first.log)")
        #expect(first.log.contains("SAE of blocks.1.hook_resid_post"), "\(first.log)")
        try run(job("whole", ["--target_l0", "40"]))
        #expect(try results("out") == results("whole"))
        try run(job("out", ["--target_l0", "60"]), exits: 78)
        #expect(computed(try run(job("out", ["--target_l0", "40"]))) == 0)
    }

    /// Checks two simultaneous runs with different SAEs in an empty folder. At most one may complete. A later run
    /// with the same SAE must succeed.
    @Test func ofTwoSAEsAtOnceOneMayGoOn() throws {
        let jobs = ["40", "60"].map { job("out", ["--target_l0", $0]) }
        for round in 0..<3 {
            let tools = try jobs.map { try RunningTool($0) }
            let statuses = tools.map { $0.wait() }
            #expect(statuses.allSatisfy { $0 == 0 || $0 == 78 }, "\(tools.map(\.log))")
            let winner = statuses.firstIndex(of: 0)
            #expect(statuses.count { $0 == 0 } <= 1)
            try run(jobs[winner ?? 0])
            try run(jobs[1 - (winner ?? 0)], exits: 78)
            try run(job("whole\(round)", ["--target_l0", winner == 1 ? "60" : "40"]))
            #expect(try results("out") == results("whole\(round)"))
            try FileManager.default.removeItem(atPath: folder.file("out"))
        }
    }

    /// Checks that `--overwrite` stops an earlier run in the same folder, in this order:
    /// 1. The first run pauses just before it renames its first file.
    /// 2. The second run, with --overwrite, replaces the state folder by a new one of the same name.
    /// 3. The first run continues. It must fail, and must not put its file among the results of the second run.
    @Test func anOverwrittenRunPutsNothingInItsPlace() throws {
        let first = try startPaused(job("out", ["--target_l0", "60"]), at: "rename-before:1")
        let second = try RunningTool(
            job("out", ["--target_l0", "40", "--overwrite"]),
            environment: try shim(["FAULT_AT": "load:1:PAUSE:\(folder.file("struck again"))"]))
        #expect(first.wait() == 74, "\(first.log)")
        #expect(first.log.contains("was removed during this run"), "\(first.log)")
        #expect(!first.log.contains("are kept"), "\(first.log)")
        #expect(second.wait() == 0, "\(second.log)")
        try run(job("whole", ["--target_l0", "40"]))
        #expect(try results("out") == results("whole"))
    }

    /// Checks that files which other programs leave in `.sae-extract`, such as `.DS_Store`, do no harm.
    @Test func strayFilesInOurFolderAreNoMatter() throws {
        try run(job("out"))
        for place in ["", "/models", "/models/google_gemma-2-2b", "/claims"] {
            try folder.write("x".utf8, "out/.sae-extract\(place)/.DS_Store")
        }
        #expect(computed(try run(job("out"))) == 0)
        #expect(computed(try run(job("out", ["--overwrite"]))) == 20)
    }

    @Test func leftPartialFilesGoAtTheEnd() throws {
        try stopHalfway(job("out"))
        let state = try #require(try own("configuration.json").first) as NSString
        for folder in [state.deletingLastPathComponent, folder.file("out/.sae-extract/runs")] {
            try TestData.write([1, 2, 3], to: folder + "/0123.partial")
        }
        try run(job("out"))
        #expect(try own(".partial") == [])
    }

    // MARK: Dry runs

    @Test func aDryRunShowsThePlanAndDoesNothing() throws {
        let arguments = job("out", layers: [0, 1], ["--workers", "3"])
        let before = try run(arguments + ["--dry_run"])
        #expect(!fileExists(folder.file("out")))
        for part in [
            "author 0", "layer_1/width_16k/average_l0_40", "0 of 10", "ranks 0 to 2 of 3",
            "5 authors, 40 documents", "free:", "to be written: about",
        ] {
            #expect(before.output.contains(part), "no '\(part)' in:\n\(before.output)")
        }
        try stopHalfway(arguments)
        let names = try FileManager.default.subpathsOfDirectory(atPath: folder.file("out"))
        let during = try run(arguments + ["--dry_run"])
        #expect(
            try FileManager.default.subpathsOfDirectory(atPath: folder.file("out")) == names)
        // The columns of a row: author, documents, tokens, batches, batches in journals, files in place.
        let rows = during.output.split(separator: "\n").filter { $0.hasPrefix("  author ") }
        let journaled = rows.dropFirst().compactMap {
            Int($0.split(whereSeparator: \.isWhitespace)[5])
        }
        #expect(journaled.reduce(0, +) >= 10, "\(during.output)")
        try run(arguments)
        let after = try run(arguments + ["--dry_run"])
        #expect(after.output.components(separatedBy: "10 of 10").count == 6, "\(after.output)")
        #expect(after.output.contains("about 0 bytes in 0 files"))
    }
}
