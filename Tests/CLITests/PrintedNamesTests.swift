// Tests of printed texts from authors, files and servers. They must not control the terminal or begin a new line.

import Files
import Foundation
import TestSupport
import Testing

struct PrintedNamesTests: UsingFolder {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private static let escape = "\u{1B}]0;PWNED\u{7}\u{1B}[31mred"
    private static let forged = "ann\nError: /data: the disk is full; as root run: curl x | sh\nann"
    private static let names = [
        escape, forged, "a\u{9B}31mb", "rtl\u{202E}gnp", "e\u{301}\r\nx\u{2028}y\u{85}z",
        "tag\u{E0041}\u{200B}\u{7F}", "Charlotte Brontë", "勃朗特", "👩‍🚒", "می‌خواهم",
    ]
    private static let escaped = #"\x1b]0;PWNED\x07\x1b[31mred"#

    /// Writes a corpus with two documents for each of the author names in `names`. Returns its path.
    private func corpus() throws -> String {
        let authors = PrintedNamesTests.names.flatMap { [$0, $0] }
        return try folder.write(SyntheticCorpus.jsonl(authors: authors), "corpus.jsonl")
    }

    private func job(_ name: String = "out") throws -> [String] {
        Tool.arguments(corpus: try corpus(), layers: [1], saveDirectory: folder.file(name))
    }

    /// Checks that every line of `text` is printable, and that none begins with the error message that is in the
    /// author name `forged`.
    private func expectPrintable(
        _ text: String, _ place: SourceLocation = #_sourceLocation
    ) {
        for line in text.unicodeScalars.split(separator: "\n").map({ String($0) }) {
            #expect(
                printable(line).utf8.elementsEqual(line.utf8), "\(printable(line))",
                sourceLocation: place)
            #expect(!line.hasPrefix("Error: /data"), "\(line)", sourceLocation: place)
        }
        for part in ["\u{1B}", "\u{7}", "\u{9B}", "\u{202E}", "\u{2028}", "\r"] {
            #expect(
                !text.unicodeScalars.contains(part.unicodeScalars.first!), "\(Array(text.utf8))",
                sourceLocation: place)
        }
    }

    private func expect(
        _ outcome: TestCommand.Outcome, exits status: Int32 = 0, showing parts: [String],
        _ place: SourceLocation = #_sourceLocation
    ) {
        #expect(outcome.status == status, "\(outcome.errors)", sourceLocation: place)
        expectPrintable(outcome.output, place)
        expectPrintable(outcome.errors, place)
        for part in parts {
            #expect(
                (outcome.output + outcome.errors).contains(part),
                "no '\(part)' in \(outcome.output)\(outcome.errors)", sourceLocation: place)
        }
    }

    private static let shown = [
        escaped, #"ann\nError: /data: the disk is full; as root run: curl x | sh\nann"#,
        #"a\x9b31mb"#, #"rtl\u202egnp"#, #"x\u2028y\x85z"#, #"tag\U000e0041\u200b\x7f"#,
        "Charlotte Brontë", "勃朗特", "👩‍🚒", "می‌خواهم",
    ]

    // MARK: Runs

    @Test func authorsInARun() throws {
        let job = try job()
        let dry = try Tool.run(job + ["--dry_run"])
        expect(dry, showing: PrintedNamesTests.shown)
        // Columns are as wide as the escaped names, so all rows have the same length.
        let table = dry.output.components(separatedBy: "\n").filter { $0.contains(" of ") }
        #expect(
            Set(
                table.filter { $0.unicodeScalars.allSatisfy(\.isASCII) && $0.hasSuffix("0") }
                    .map(\.count)
            ).count == 1, "\(table)")
        for (name, extra) in [
            ("out", ["--workers", "2", "--progress", "plain"]),
            ("trace", ["--workers", "1", "--log_level", "trace"]),
        ] {
            let outcome = try Tool.run(
                try self.job(name) + extra, environment: ["SAE_EXTRACT_PROGRESS_SECONDS": "0.01"])
            expect(outcome, showing: PrintedNamesTests.shown)
        }
        let inspected = try Tool.run(["inspect", folder.file("out")])
        expect(inspected, showing: PrintedNamesTests.shown)
        expect(try Tool.run(["verify", folder.file("out")]), showing: ["all good"])
        expect(try Tool.run(["report", folder.file("out")]), showing: ["10 authors"])
    }

    @Test func authorsInJSON() throws {
        let outcome = try Tool.run(
            try job() + ["--progress", "json", "--log_level", "error"],
            environment: ["SAE_EXTRACT_PROGRESS_SECONDS": "0.001"])
        expect(outcome, showing: [])
        var seen: Set<Data> = []
        for line in outcome.output.split(separator: "\n") {
            let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            for worker in object?["workers"] as? [[String: Any]] ?? [] {
                if let author = worker["author"] as? String { seen.insert(Data(author.utf8)) }
            }
        }
        // Names in JSON must be exact. A line shows only the authors that are being computed, so some names may be
        // missing.
        #expect(!seen.isEmpty && seen.isSubset(of: PrintedNamesTests.names.map { Data($0.utf8) }))
        let inspected = try Tool.run(["inspect", folder.file("out"), "--json"])
        expect(inspected, showing: [#""\u001b]0;PWNED\u0007"#, #"a\u009b31mb"#, "勃朗特"])
        let object = try JSONSerialization.jsonObject(with: Data(inspected.output.utf8))
        let authors = (object as? [String: Any])?["authors"] as? [[String: Any]] ?? []
        #expect(
            authors.compactMap { ($0["author"] as? String).map { Data($0.utf8) } }
                == PrintedNamesTests.names.map { Data($0.utf8) })
    }

    @Test func liveLinesOfATerminal() throws {
        let terminal = try TerminalRun(try job() + ["--workers", "2"], columns: 150)
        #expect(terminal.wait() == 0)
        #expect(!terminal.output.unicodeScalars.contains("\u{7}"))
        for part in ["]0;PWNED\u{7}", "\u{1B}[31m", "\u{9B}", "\u{202E}", "\u{2028}"] {
            #expect(!terminal.output.contains(part))
        }
        #expect(
            terminal.screen.text.contains {
                $0.contains("] \(PrintedNamesTests.escaped): 2 documents")
            })
    }

    /// Checks that a worker's error prints an author's name on one line, although the name has line breaks.
    @Test func errorsOfWorkers() throws {
        let environment = try shim(["FAULT_AT": "batch:3:worker:\(folder.file("struck"))"])
        for workers in ["1", "2"] {
            let outcome = try Tool.run(
                try job("out" + workers) + ["--workers", workers], exits: 1,
                environment: environment)
            #expect(outcome.errors.contains(", author '"))
            expectPrintable(outcome.errors)
            try FileManager.default.removeItem(atPath: folder.file("struck"))
        }
    }

    /// Checks that line breaks in a setting add no lines to a message of several lines.
    @Test func aMessageOfSeveralLines() throws {
        let prefix = "x\nError: /data: forged\n\u{1B}[2J"
        let job = try job() + ["--log_level", "error"]
        expect(try Tool.run(job + ["--prefix", prefix]), showing: [])
        let outcome = try Tool.run(job)
        expect(
            outcome, exits: 78,
            showing: [#"'x\nError: /data: forged\n\x1b[2J' in the other run"#])
        let lines = outcome.errors.components(separatedBy: "\n")
        #expect(lines.count == 4 && lines[0].hasSuffix("of another configuration:"), "\(lines)")
        #expect(lines[1].hasPrefix("  --prefix: ") && lines[2].hasPrefix("Give another --save_dir"))
    }

    // MARK: Files

    @Test func namesAndTypesOfFiles() throws {
        try Tool.run(
            Tool.tinyArguments(saveDirectory: folder.file("out")) + ["--layers", "0"], exits: 0)
        let start = "out/sae__google_gemma-2-2b__"
        try folder.write(
            "[]".utf8, start + "tokens__\(PrintedNamesTests.escape)\nBAD   forged.json")
        // Puts a longer type into the header, and removes spaces so that the header keeps its length.
        let metric = folder.file(start + "entropy_loss__harbour.npy")
        var bytes = try TestData.bytes(metric)
        let header = String(decoding: bytes[10..<128], as: UTF8.self)
        let descr = "\u{1B}]0;PWNED\u{7}<f2"
        var changed = header.replacing("<f2", with: descr)
        while changed.utf8.count > header.utf8.count {
            changed.remove(at: changed.lastIndex(of: " ")!)
        }
        bytes.replaceSubrange(10..<128, with: changed.utf8)
        try TestData.write(bytes, to: metric)
        let verified = try Tool.run(["verify", folder.file("out")])
        expect(
            verified, exits: 65,
            showing: [
                "note  sae__google_gemma-2-2b__tokens__\(PrintedNamesTests.escaped)\\nBAD   forged.json",
                #"\x1b]0;PWNED\x07<f2"#,
            ])
        let inspected = try Tool.run(["inspect", metric])
        expect(inspected, exits: inspected.status, showing: [#"\x1b]0;PWNED\x07<f2"#])

        var builder = SafetensorsBuilder()
        // The names have JSON escapes, because the header of the file is JSON.
        builder.add(#"ann\nError: /data: forged"#, [1], [1])
        builder.add(#"\u001b]0;PWNED\u0007\u001b[31mred"#, [1], [1])
        let tensors = try folder.write(builder.bytes(), "\u{9B}31m\nError: /data.safetensors")
        expect(
            try Tool.run(["inspect", tensors]),
            showing: [PrintedNamesTests.escaped, #"\x9b31m\nError: /data.safetensors"#])
        expect(
            try Tool.run(["inspect", tensors, "--array", "none"]), exits: 65,
            showing: [PrintedNamesTests.escaped])
        let texts = folder.file(start + "full_texts__harbour.json")
        try TestData.write("[\"one\\ntwo\\u001b[2J\\r\\nthree\"]".utf8, to: texts)
        // Line breaks of a document must be printed as line breaks.
        expect(
            try Tool.run(["inspect", texts, "--document", "0"]),
            showing: ["\none\ntwo\\x1b[2J\\r\nthree\n"])
    }

    @Test func foldersOfSAEs() throws {
        let saes = try folder.copy(TestData.tiny + "/sae", "sae")
        let layer = "\(saes)/gemma-scope-2b-pt-res/layer_0"
        try FileManager.default.copyItem(
            atPath: layer + "/width_16k", toPath: layer + "/width_\u{1B}]0;PWN\u{7}x\nforged")
        let arguments = ["saes", "--layer_types", "res", "--layers", "0", "--sae_dir", saes]
        expect(try Tool.run(arguments), showing: [#"\x1b]0;PWN\x07x\nforged"#])
        expect(
            try Tool.run(arguments + ["--sae_id", "res:layer_0/width_1k/average_l0_1"]), exits: 64,
            showing: [#"\x1b]0;PWN\x07x\nforged"#])
    }

    /// Checks the argument parser's message about an unexpected argument, such as a file name from a shell's `*`.
    @Test func argumentsThatAreNotExpected() throws {
        let outcome = try Tool.run(["inspect", "a.npz", "b\u{1B}[2J\nError: /data: forged.npz"])
        expect(
            outcome, exits: 64,
            showing: [#"Unexpected argument 'b\x1b[2J\nError: /data: forged.npz'"#])
        #expect(outcome.errors.contains("\nUsage: sae-extract inspect"))
    }

    @Test func theTitleOfAReport() throws {
        let name = "out\nssh-ed25519 AAAA\u{1B}[2J\u{202E}<b>"
        let run = try Tool.run(try job(name) + ["--log_level", "error"])
        expect(run, showing: [])
        expect(try Tool.run(["report", folder.file(name)]), showing: [#"out\nssh-ed25519"#])
        let page = String(
            decoding: try TestData.bytes(folder.file(name) + "/report.html"), as: UTF8.self)
        let start = try #require(page.range(of: "<title>"))
        let end = try #require(page.range(of: "</title>"))
        let title = String(page[start.upperBound..<end.lowerBound])
        #expect(title.hasSuffix("/out ssh-ed25519 AAAA [2J &lt;b>"), "\(title)")
    }

    // MARK: The Hub

    @Test func filesOfADataset() throws {
        let hub = try TestHub(fixtureIn: folder)
        let dataset = hub.root + "/datasets/evil/set"
        try FileManager.default.createDirectory(
            atPath: dataset, withIntermediateDirectories: true)
        for name in [
            "train-\u{1B}]0;PWNED\u{7}\u{1B}[2J.jsonl", "train-x\n  forged  in the cache.jsonl",
        ] {
            try FileManager.default.copyItem(
                atPath: try corpus(), toPath: "\(dataset)/\(name)")
        }
        let home = folder.file("hf")
        let arguments = ["--layers", "0", "--layer_types", "res", "--data_repo", "evil/set"]
        let shown = [
            #"train-\x1b]0;PWNED\x07\x1b[2J.jsonl"#, #"train-x\n  forged  in the cache.jsonl"#,
        ]
        let environment = hub.environment(home: home)
        for extra in [["--dry_run"], [], []] {
            expect(
                try Tool.run(["fetch"] + arguments + extra, environment: environment),
                showing: shown)
        }
        expect(
            try Tool.run(
                arguments + ["--dry_run", "--save_dir", folder.file("out")],
                environment: environment),
            showing: shown + PrintedNamesTests.shown)
    }

    /// Checks that texts from a server are printed with escapes.
    @Test func answersOfAServer() throws {
        let hub = try TestHub(fixtureIn: folder)
        try hub.setFaults(
            #"[{"path": "", "status": 403, "headers": {"X-Error-Message": "no\u001b]0;PWNED\u0007 \u009b31m"}, "body": "{\"error\": \"no\\n\\u001b[2J\\nError: /data: forged\"}"}]"#
        )
        let outcome = try Tool.run(
            ["fetch", "--layers", "0"], exits: 69,
            environment: hub.environment(home: folder.file("hf")))
        expectPrintable(outcome.errors)
    }

    /// Checks that a suggested command, pasted into a shell, gives the original argument.
    @Test func commandsThatAreSuggested() throws {
        let hub = try TestHub(fixtureIn: folder)
        let field = "sty\nle\u{1B}[2J's \u{202E}x\u{301}"
        let outcome = try Tool.run(
            ["--layers", "0", "--dry_run", "--author_field", field],
            environment: hub.environment(home: folder.file("hf")))
        expect(outcome, showing: [])
        let line = try #require(
            outcome.output.components(separatedBy: "\n").last { $0.contains("sae-extract fetch") })
        let command = try #require(line.range(of: "sae-extract fetch"))
        let shell = try TestCommand.run([
            "bash", "-c",
            "sae-extract() { printf '%s\\0' \"$@\"; }; " + line[command.lowerBound...],
        ])
        let words = shell.output.utf8.split(separator: 0)
        let place = try #require(words.firstIndex { $0.elementsEqual("--author_field".utf8) })
        #expect(words[place + 1].elementsEqual(field.utf8), "\(line)")
    }
}
