// Tests of unfinished runs: complete authors are shown, incomplete authors are reported. Also tests of the state and
// the names that earlier versions wrote.

import ByteJSON
import Files
import Foundation
import TestSupport
import Testing

struct UnfinishedRunTests: Resuming {
    let folder: TemporaryFolder
    let corpus: String

    /// Runs `arguments`, and kills the worker and the parent when `count` NumPy files are in place.
    private func kill(afterFile count: Int, _ arguments: [String]) throws {
        let mark = folder.file("struck-\(count)-\(arguments.count)")
        try run(
            arguments, exits: -9,
            environment: try shim(["FAULT_AT": "rename-after:\(count):both:\(mark)"]))
        #expect(fileExists(mark))
    }

    private func inspection(_ name: String = "out") throws -> JSONObject {
        let outcome = try Tool.run(["inspect", folder.file(name), "--json"], exits: 0)
        let path = try folder.write(outcome.output.utf8, "inspection.json")
        return try #require(try MappedFile(path: path).parsedJSON().object)
    }

    private func authors(_ inspection: JSONObject) -> [String] {
        (inspection["authors"]?.array ?? []).compactMap { $0.object?["author"]?.string }
    }

    /// Checks that the complete authors of a killed run are shown. An author has five NumPy files.
    @Test func whatAKilledRunHasCompletedIsShown() throws {
        try kill(afterFile: 12, job("out"))
        let found = try inspection()
        #expect(authors(found) == ["author 0", "author 1"])
        #expect(
            found["authors_not_complete"]?.array?.compactMap(\.string) == [
                "author 2", "author 3", "author 4",
            ])
        let lines = try Tool.run(["inspect", folder.file("out")], exits: 0).output
        #expect(lines.contains("run       unfinished, begun "), "\(lines)")
        #expect(lines.contains("was killed: 2 of 5 authors are complete, and shown"), "\(lines)")
        // Each SAE must have a mean L0, computed over the authors that are shown.
        #expect(
            found["saes"]?.array?.allSatisfy { ($0.object?["mean_l0"]?.number ?? 0) > 0 } == true)
        let checked = try Tool.run(["verify", folder.file("out"), "--quiet"], exits: 65)
        #expect(
            checked.output.contains(
                "14 files of 2 authors, all good, but the run is not complete (3 more authors are missing)"
            ), "\(checked.output)")
        let report = try Tool.run(["report", folder.file("out")], exits: 0)
        #expect(report.errors.contains("warning: not complete, and not shown: author 2, author 3"))
        #expect(report.output.contains("2 authors, 3 SAEs"), "\(report.output)")
        try run(job("out"))
        #expect(authors(try inspection()).count == 5)
        try Tool.run(["verify", folder.file("out"), "--quiet"], exits: 0)
    }

    /// Checks a killed run that adds a layer. The first layer must be shown. The new layer, which only some authors
    /// have, must not be shown.
    @Test func moreLayersThatAreNotCompleteAreLeftOut() throws {
        try run(job("out", layers: [0]))
        try kill(afterFile: 7, job("out", layers: [0, 1]))
        let found = try inspection()
        #expect(authors(found).count == 5)
        #expect(found["saes"]?.array?.count == 3)
        let checked = try Tool.run(["verify", folder.file("out"), "--quiet"], exits: 65)
        #expect(!checked.output.contains("BAD"), "\(checked.output)")
        #expect(
            checked.output.contains(
                "blocks.1.hook_resid_post: dense files are complete for 2 of 5 authors"),
            "\(checked.output)")
        try Tool.run(["report", folder.file("out")], exits: 0)
    }

    @Test func aRunAtWorkIsSaidToBe() throws {
        let tool = try startPaused(job("out"), at: "rename-after:12")
        let lines = try Tool.run(["inspect", folder.file("out")], exits: 0).output
        #expect(
            lines.contains("the newest run is at work (process \(tool.identifier))"), "\(lines)")
        let second = try run(job("out"))
        #expect(
            second.errors.contains("another run (process \(tool.identifier)) is at work"),
            "\(second.errors)")
        #expect(tool.wait() == 0, "\(tool.log)")
    }

    @Test func receiptsOfSeveralRanksAddUp() throws {
        let ranks = (0..<2).map {
            job("out", ["--rank", "\($0)", "--world_size", "2"])
        }
        try kill(afterFile: 7, ranks[0])
        try kill(afterFile: 5, ranks[1] + ["--threads", "1"])
        #expect(authors(try inspection()) == ["author 0"])
        try run(ranks[1])
        #expect(authors(try inspection()) == ["author 0", "author 1", "author 3"])
        try Tool.run(["verify", folder.file("out"), "--quiet"], exits: 65)
    }

    @Test func damagedReceiptsShowNothing() throws {
        try kill(afterFile: 12, job("out"))
        let path = try #require(try own(".receipts").first)
        let bytes = try TestData.bytes(path)
        let end = try #require(bytes.firstIndex(of: 0x0A))
        // A wrong byte invalidates its line. A line without a line break at its end is invalid too.
        var wrong = bytes
        wrong[40] ^= 1
        try TestData.write(wrong, to: path)
        #expect(authors(try inspection()) == ["author 1"])
        try TestData.write(bytes.dropLast(3), to: path)
        #expect(authors(try inspection()) == ["author 0"])
        try TestData.write(bytes[..<end], to: path)
        #expect(authors(try inspection()) == [])
        let report = try Tool.run(["report", folder.file("out")], exits: 65)
        #expect(report.errors.contains("no author's files are complete yet"))
        try run(job("out"))
        try run(job("whole"))
        #expect(try results("out") == results("whole"))
    }

    // MARK: State of earlier versions

    /// Checks that a run continues from the state of earlier versions, with one file for each receipt.
    @Test func earlierStateIsGoneOnWith() throws {
        try run(job("out", layers: [0]))
        let path = try #require(try own(".receipts").first)
        let state = (path as NSString).deletingLastPathComponent
        let lines = try TestData.bytes(path).split(separator: 0x0A)
        #expect(lines.count == 5)
        for (number, line) in lines.enumerated() {
            try TestData.write(line.dropFirst(9), to: "\(state)/\(number).receipt")
        }
        try FileManager.default.removeItem(atPath: path)
        let runs = folder.file("out/.sae-extract/runs")
        let entry = try #require(try directoryContents(runs).first)
        let earlier = String(entry.prefix(13) + ":" + entry.dropFirst(13))
        try FileManager.default.moveItem(atPath: "\(runs)/\(entry)", toPath: "\(runs)/\(earlier)")
        #expect(computed(try run(job("out", layers: [0]))) == 0)
        try run(job("out", layers: [0, 1]))
        try run(job("whole", layers: [0, 1]))
        #expect(try results("out") == results("whole"))
        #expect(try own(".receipt").count == 5)
        #expect(try recordedRuns("out").count == 3)
    }

    // MARK: Labels

    /// Returns the arguments of a job whose model is a folder with the name `label`.
    private func labelled(_ label: String, _ name: String, _ extra: [String] = []) throws
        -> [String]
    {
        let model = folder.file("models/\(label)")
        if !fileExists(model) {
            try folder.link("models/\(label)", to: TestData.tiny + "/model")
            for site in ["res", "mlp", "att"] {
                try folder.link(
                    "models/sae-\(label)/\(site)",
                    to: "\(TestData.tiny)/sae/gemma-scope-2b-pt-\(site)")
            }
        }
        return [
            "--model", model, "--layers", "0", "--sae_dir", folder.file("models/sae-\(label)"),
            "--data_path", corpus, "--save_dir", folder.file(name),
        ] + extra
    }

    @Test(arguments: [
        ("my__model", "my%5F%5Fmodel"), ("_x_", "%5Fx%5F"), ("50%", "50%25"),
        (".hidden", "%2Ehidden"), ("plain_one-2b", "plain_one-2b"), ("end.", "end."),
        ("a:b", "a:b"),
    ])
    func labelsAreEncodedAsAuthorsAre(label: String, encoded: String) throws {
        try run(try labelled(label, "out"))
        let names = try directoryContents(folder.file("out")).filter { $0.hasPrefix("sae__") }
        #expect(names.count == 35)
        #expect(names.allSatisfy { $0.hasPrefix("sae__\(encoded)__") }, "\(names)")
        // Programs that split the names at "__" must find four or six parts.
        #expect(
            names.allSatisfy { [4, 6].contains($0.components(separatedBy: "__").count) }, "\(names)"
        )
        #expect(authors(try inspection()).count == 5)
        try Tool.run(["verify", folder.file("out"), "--quiet"], exits: 0)
        // The next run must find these results complete.
        let again = try run(try labelled(label, "out"))
        #expect(
            computed(again) == 0 && !again.errors.contains("earlier versions"), "\(again.errors)")
    }

    /// Gives results the names that earlier versions gave them, in which the label is not encoded.
    private func makeEarlier(_ label: String, _ encoded: String, _ name: String) throws {
        let out = folder.file(name)
        for file in try directoryContents(out) where file.hasPrefix("sae__\(encoded)__") {
            try FileManager.default.moveItem(
                atPath: "\(out)/\(file)",
                toPath: "\(out)/" + file.replacing("sae__\(encoded)__", with: "sae__\(label)__"))
        }
        for part in ["models", "claims"] {
            try FileManager.default.moveItem(
                atPath: "\(out)/.sae-extract/\(part)/\(encoded)",
                toPath: "\(out)/.sae-extract/\(part)/\(label)")
        }
        let runs = try directoryContents("\(out)/.sae-extract/runs").map {
            "\(out)/.sae-extract/runs/\($0)"
        }
        for path in runs + ["\(out)/run.json"] {
            let text = try TestData.text(path)
                .replacing("sae__\(encoded)__", with: "sae__\(label)__")
                .split(separator: "\n", omittingEmptySubsequences: false)
                .filter {
                    !$0.contains("\"name_in_files\": \"\(encoded)\"") && !$0.contains("\"state\": ")
                }
            try TestData.write(text.joined(separator: "\n").utf8, to: path)
        }
        for path in try own(".receipts", in: name) {
            // The new names make the receipts' checksums wrong. Earlier versions wrote each receipt to a file without
            // a checksum.
            let receipts = try TestData.bytes(path).split(separator: 0x0A).map {
                String(decoding: $0.dropFirst(9), as: UTF8.self)
                    .replacing("sae__\(encoded)__", with: "sae__\(label)__")
            }
            for (number, receipt) in receipts.enumerated() {
                try TestData.write(receipt.utf8, to: "\(path.dropLast(9))\(number).receipt")
            }
            try FileManager.default.removeItem(atPath: path)
        }
    }

    @Test func earlierSpellingsOfLabelsAreGoneOnWith() throws {
        let (label, encoded) = ("my__model", "my%5F%5Fmodel")
        let job = try labelled(label, "out")
        try run(job)
        let today = try results("out")
        try makeEarlier(label, encoded, "out")
        let earlier = try results("out")
        #expect(earlier.keys.allSatisfy { $0.hasPrefix("sae__my__model__") })
        // The commands that read results must accept the earlier names.
        #expect(authors(try inspection()).count == 5)
        try Tool.run(["verify", folder.file("out"), "--quiet"], exits: 0)
        try Tool.run(["report", folder.file("out")], exits: 0)
        try FileManager.default.removeItem(atPath: folder.file("out/report.html"))
        // A run must continue these results.
        let again = try run(job)
        #expect(computed(again) == 0)
        #expect(again.errors.contains("as earlier versions of sae-extract"), "\(again.errors)")
        #expect(try results("out") == earlier)
        try Tool.run(["verify", folder.file("out"), "--quiet"], exits: 0)
        // Without `.sae-extract` the program cannot know how the results were made, so it must refuse the run.
        try FileManager.default.copyItem(
            atPath: folder.file("out"), toPath: folder.file("copy"))
        try FileManager.default.removeItem(atPath: folder.file("copy/.sae-extract"))
        let refused = try run(try labelled(label, "copy"), exits: 78)
        #expect(refused.errors.contains("sae__my__model__"), "\(refused.errors)")
        // With --overwrite, the results must be made again under the encoded names.
        try run(job + ["--overwrite"])
        #expect(try results("out") == today)
        try Tool.run(["verify", folder.file("out"), "--quiet"], exits: 0)
    }
}
