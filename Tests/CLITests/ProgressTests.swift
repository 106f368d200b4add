// Tests of progress: the counts, and the display on terminals, in logs and as JSON.

import ByteJSON
import Extraction
import Foundation
import TestSupport
import Testing

@testable import sae_extract

struct ProgressTests: Resuming {
    let folder: TemporaryFolder
    let corpus: String

    /// Returns the progress of a run. Each worker has two authors of ten documents each, and has begun the first.
    private func progress(workers: Int = 1) -> RunProgress {
        var progress = RunProgress(
            ranks: (0..<workers).map { ($0, [(2 * $0, 10), (2 * $0 + 1, 10)]) })
        for rank in 0..<workers {
            progress.add(.started(process: 1), rank: rank, at: 0)
            progress.add(.loaded(kernels: "", products: ""), rank: rank, at: 1)
            progress.add(.author(name: "harbour \(rank) 勃朗特"), rank: rank, at: 1)
            progress.add(.share(author: 2 * rank, documents: 10, done: 0), rank: rank, at: 1)
        }
        return progress
    }

    private func batch(_ author: Int, deviceMemory: Int? = nil) -> WorkerEvent {
        .batch(author: author, batch: 0, documents: 2, tokens: 200, deviceMemory: deviceMemory)
    }

    @Test func documentsTokensAndTimeAreCounted() {
        var progress = progress()
        #expect(progress.documentsTotal == 20 && progress.documentsDone == 0)
        #expect(progress.rate(at: 1) == nil && progress.secondsLeft(at: 1) == nil)
        for second in 2...5 { progress.add(batch(0), rank: 0, at: Double(second)) }
        #expect(progress.documentsDone == 8 && progress.tokens == 800)
        #expect(progress.rate(at: 5) == 200)
        // 12 documents remain, with 100 tokens each on average, at 200 tokens a second.
        #expect(progress.secondsLeft(at: 5) == 6)
        progress.add(.authorDone(author: 0, made: 7), rank: 0, at: 6)
        #expect(progress.documentsDone == 10)
        progress.add(.share(author: 1, documents: 10, done: 6), rank: 0, at: 6)
        #expect(progress.documentsDone == 16)
        // Another process has computed the other 4 documents of this share.
        progress.add(.shareDone(author: 1), rank: 0, at: 7)
        #expect(progress.documentsDone == 20 && progress.authors == [0])
        // The rate must fall while no new batches arrive.
        #expect(progress.rate(at: 60)! < progress.rate(at: 6)!)
        progress.add(.finished(seconds: ["model": 4]), rank: 0, at: 8)
        #expect(progress.rate(at: 8) == nil && progress.modelSeconds == 4)
    }

    @Test func speedIsThatOfTheLastWhile() {
        var progress = progress()
        for second in 2...20 { progress.add(batch(0), rank: 0, at: Double(second)) }
        for second in stride(from: 40.0, through: 100, by: 20) {
            progress.add(batch(0), rank: 0, at: second)
        }
        #expect(progress.rate(at: 100) == 10)
    }

    /// Checks that the live lines fit a terminal of any size. If not all lines fit, the lines of failed workers must
    /// be shown.
    @Test(arguments: [1, 2, 8, 40], [10, 20, 40, 60, 80, 120, 200])
    func linesFit(workers: Int, columns: Int) {
        var progress = progress(workers: workers)
        for rank in 0..<workers {
            progress.add(batch(2 * rank, deviceMemory: 70_000_000_000), rank: rank, at: 5)
        }
        progress.end(workers - 1, .failed(status: nil, message: ["gone"]))
        for rows in [1, 2, 5, 23, 60] {
            let lines = progress.liveLines(at: 6, columns: columns, rows: rows)
            #expect(lines.count == min(rows, workers + (workers > 1 ? 1 : 0)))
            for line in lines {
                #expect(TerminalWidth.of(line.text) <= columns, "\(line.text)")
            }
            if rows > 2, columns >= 20 {
                #expect(lines.contains { $0.text.contains("failed") && $0.isAlarm })
            }
        }
        let whole = progress.liveLines(at: 6, columns: 200, rows: 100)
        if workers > 1 {
            for part in [
                "harbour 0 勃朗特", "2/20 documents", "200 tokens", "50 tokens/s", "GPU 70 GB", "left",
            ] {
                #expect(whole[0].text.contains(part), "\(whole[0].text)")
            }
            #expect(whole.last!.text.hasPrefix("all [") && whole.last!.text.contains("1 failed"))
        }
    }

    @Test func wordsAreReadable() {
        #expect(RunProgress.duration(0) == "00:00" && RunProgress.duration(61.2) == "01:02")
        #expect(RunProgress.duration(3600 * 30 + 59) == "30:00:59")
        #expect(RunProgress.grouped(7) == "7" && RunProgress.grouped(1_234_567) == "1,234,567")
        #expect(
            TerminalWidth.fitted("abc勃朗", 6) == "abc勃"
                || TerminalWidth.fitted("abc勃朗", 6) == "abc勃朗")
    }

    /// Checks that lines fit the terminal if names have control characters, combining characters or emoji.
    @Test func namesOfStrangersFit() {
        for name in ["a\u{1B}[2J\n\u{202E}cd", "می‌خواهم می‌خواهم", "क्‍षक्‍षक्‍ष", "👩‍🚒👩‍🚒1️⃣", "勃\u{E0100}朗"] {
            var progress = progress(workers: 2)
            progress.add(.author(name: name), rank: 0, at: 1)
            for columns in 10...80 {
                for line in progress.liveLines(at: 6, columns: columns, rows: 5) {
                    #expect(TerminalWidth.of(line.text) <= columns, "\(line.text)")
                    #expect(!line.text.unicodeScalars.contains("\u{1B}"))
                }
            }
        }
    }

    // MARK: The real binary

    /// Checks that the complete log appears above the live lines, and that none of the live lines remain at the end.
    @Test(arguments: [200, 60, 40])
    func aTerminalShowsLiveLines(columns: Int) throws {
        let terminal = try TerminalRun(job("out") + ["--workers", "2"], columns: columns)
        #expect(terminal.read { $0.contains { $0.hasPrefix("all ") } })
        #expect(terminal.wait() == 0)
        let log = terminal.screen.text
        #expect(!log.contains { $0.hasPrefix("all ") || $0.hasPrefix("rank ") }, "\(log)")
        #expect(log.contains { $0.hasPrefix("5 authors, ") } && log.last == "")
        let plain = try Tool.run(job("other") + ["--workers", "2", "--progress", "none"])
        func kinds(_ lines: [String]) -> [String] {
            lines.filter { !$0.isEmpty && !$0.contains(folder.path) }
                .map { $0.filter { !$0.isNumber && $0 != "." } }.sorted()
        }
        #expect(kinds(log) == kinds(plain.errors.components(separatedBy: "\n")))
        for frame in terminal.frames {
            for line in frame where line.hasPrefix("rank ") || line.hasPrefix("all ") {
                #expect(line.count < columns)
            }
        }
        // No worker has failed, so there must be no colours.
        #expect(!terminal.screen.hasColor)
    }

    @Test func aTerminalMayChangeItsSize() throws {
        let terminal = try TerminalRun(
            job("out", layers: [0, 1, 2, 3]) + ["--workers", "2", "--threads", "1"], columns: 150)
        for columns in [60, 150, 30, 80] {
            terminal.read { $0.contains { $0.hasPrefix("all ") } }
            terminal.resize(columns: columns)
        }
        #expect(terminal.wait() == 0)
        let log = terminal.screen.text
        #expect(!log.contains { $0.hasPrefix("all ") || $0.hasPrefix("rank ") }, "\(log)")
        #expect(log.count { $0.contains("mean cross-entropy") } == 5, "\(log)")
    }

    /// Checks that a failed worker's line stays while the other workers continue, in red unless NO_COLOR is set.
    @Test(arguments: [false, true])
    func aDeadWorkerIsSeen(noColor: Bool) throws {
        let terminal = try TerminalRun(
            job("out", ["--workers", "2", "--log_level", "error"]), columns: 100,
            environment: try shim([
                "FAULT_AT": "batch:3:worker:\(folder.file("struck"))",
                "NO_COLOR": noColor ? "1" : nil,
            ]))
        #expect(terminal.wait() == 1)
        let seen = terminal.frames.contains { frame in
            frame.contains { $0.hasPrefix("rank ") && $0.contains("failed") }
                && frame.contains { $0.hasPrefix("all ") && $0.contains("1 failed") }
        }
        #expect(seen)
        #expect(terminal.screen.hasColor == !noColor)
        let log = terminal.screen.text
        #expect(log.contains { $0.hasPrefix("error: ") && $0.contains("the other workers go on") })
        #expect(!log.contains { $0.hasPrefix("all ") || $0.hasPrefix("rank ") }, "\(log)")
    }

    /// Checks that a log file gets progress lines at intervals, without control sequences.
    @Test(arguments: ["auto", "plain"])
    func aLogGetsLines(style: String) throws {
        let outcome = try Tool.run(
            job("out") + ["--progress", style],
            environment: ["SAE_EXTRACT_PROGRESS_SECONDS": "0.02", "TERM": "xterm"])
        #expect(outcome.status == 0 && outcome.output.isEmpty)
        #expect(!outcome.errors.contains("\u{1B}"))
        let lines = outcome.errors.components(separatedBy: "\n").filter {
            $0.hasPrefix("progress: ")
        }
        #expect(
            lines.contains { $0.contains("of 40 documents") && $0.contains("tokens/s") }, "\(lines)"
        )
        let quiet = try Tool.run(
            job("quiet") + ["--progress", style, "--log_level", "warning"],
            environment: ["SAE_EXTRACT_PROGRESS_SECONDS": "0.02"])
        // At log level `warning`, `--progress plain` prints progress lines and `auto` prints none.
        #expect(quiet.errors.contains("progress: ") == (style == "plain"))
    }

    @Test func aDumbTerminalGetsLines() throws {
        let terminal = try TerminalRun(
            job("out"), columns: 80,
            environment: ["TERM": "dumb", "SAE_EXTRACT_PROGRESS_SECONDS": "0.02"])
        #expect(terminal.wait() == 0)
        #expect(!terminal.output.contains("\u{1B}") && terminal.output.contains("progress: "))
    }

    @Test func scriptsGetJSON() throws {
        try run(job("out", ["--layer_types", "res", "--n_docs", "10"]))
        let outcome = try Tool.run(
            job("out") + ["--progress", "json", "--n_docs", "10", "--workers", "2"], exits: 0,
            environment: ["SAE_EXTRACT_PROGRESS_SECONDS": "0.02"])
        let lines = outcome.output.split(separator: "\n").compactMap {
            try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
        }
        #expect(lines.count == outcome.output.split(separator: "\n").count && !lines.isEmpty)
        let last = try #require(lines.last)
        #expect(last["documents_done"] as? Int == 10 && last["documents_total"] as? Int == 10)
        #expect(last["authors_done"] as? Int == 5 && (last["tokens"] as? Int ?? 0) > 0)
        let workers = last["workers"] as? [[String: Any]]
        #expect(workers?.map { $0["state"] as? String } == ["done", "done"])
        let done = lines.compactMap { $0["documents_done"] as? Int }
        #expect(done == done.sorted())
        let none = try Tool.run(job("none") + ["--progress", "none"])
        #expect(none.output.isEmpty && !none.errors.contains("progress: "))
    }
}
