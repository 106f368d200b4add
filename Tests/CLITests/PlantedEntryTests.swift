// Tests of links, pipes and devices that another user has put into `save_dir`.

import Files
import Foundation
import TestSupport
import Testing

struct PlantedEntryTests {
    private let folder: TemporaryFolder
    private let victim: String

    init() throws {
        folder = try TemporaryFolder()
        victim = folder.file("victim")
        try folder.write("precious".utf8, "victim/docs/thesis.txt")
        try folder.write("half".utf8, "victim/download.partial")
    }

    private var out: String { folder.file("out") }

    private func arguments(_ more: [String] = []) -> [String] {
        Tool.arguments(
            corpus: TestData.tiny + "/authormix.jsonl", layers: [0], saveDirectory: out)
            + ["--layer_types", "res", "--n_docs", "2", "--device", "cpu"] + more
    }

    private func expectUntouched(_ place: String) throws {
        #expect(
            try TestData.bytes("\(victim)/docs/thesis.txt") == Array("precious".utf8), "\(place)")
        let names = try FileManager.default.subpathsOfDirectory(atPath: victim).sorted()
        #expect(names == ["docs", "docs/thesis.txt", "download.partial"], "\(place)")
    }

    private func plant(_ place: String, to target: String) throws {
        let path = "\(out)/\(place)"
        try? FileManager.default.removeItem(atPath: path)
        try folder.link("out/\(place)", to: target)
    }

    /// Checks a symlink in place of each of the program's folders. The link's target must not change, and an error
    /// must name the link.
    @Test(arguments: [
        "", "/removed", "/runs", "/claims", "/models", "/models/LABEL",
        "/models/LABEL/CONFIGURATION",
    ])
    func aLinkInPlaceOfOurFolders(place: String) throws {
        try Tool.run(arguments(), exits: 0)
        let models = "\(out)/.sae-extract/models"
        let label = try #require(
            try FileManager.default.contentsOfDirectory(atPath: models).first)
        let configuration = try #require(
            try FileManager.default.contentsOfDirectory(atPath: "\(models)/\(label)").first)
        let name =
            ".sae-extract"
            + place.replacing("LABEL", with: label)
            .replacing("CONFIGURATION", with: configuration)
        try plant(name, to: victim)
        var isNamed = false
        for more in [[], ["--dry_run"], ["--overwrite"]] {
            let outcome = try Tool.run(arguments(more))
            try expectUntouched("\(name) \(more)")
            if outcome.status != 0 {
                #expect(outcome.status == 74, "\(outcome.errors)")
                #expect(
                    outcome.errors.contains(
                        "cannot use \(out)/\(name): it is a link to \(victim), expected a folder"),
                    "\(outcome.errors)")
                isNamed = true
            }
            for command in ["verify", "inspect", "report"] { _ = try Tool.run([command, out]) }
            try expectUntouched(name)
        }
        #expect(isNamed, "\(name)")
    }

    /// Checks that no command blocks on a FIFO in place of one of the program's files.
    @Test(arguments: ["x.journal", "x.receipts", "x.receipt"])
    func aPipeInPlaceOfOurFiles(name: String) throws {
        try Tool.run(arguments(), exits: 0)
        let state = try #require(
            FileManager.default.enumerator(atPath: out + "/.sae-extract")?.compactMap {
                $0 as? String
            }
            .first { $0.hasSuffix("/configuration.json") })
        let path = "\(out)/.sae-extract/\(state.dropLast("configuration.json".count))\(name)"
        mkfifo(path, 0o666)
        let outcome = try Tool.run(arguments(["--layers", "1"]), exits: 74)
        #expect(
            outcome.errors.contains("cannot use \(path): it is a pipe (FIFO), expected a file"),
            "\(outcome.errors)")
        for command in ["verify", "inspect", "report"] { _ = try Tool.run([command, out]) }
    }

    /// Checks a FIFO and an endless device in place of results. `verify` must report them, and the next run must
    /// replace them.
    @Test func whatIsNoFileInPlaceOfResults() throws {
        try Tool.run(arguments(), exits: 0)
        let names = try FileManager.default.contentsOfDirectory(atPath: out)
        let tokens = try #require(names.first { $0.contains("__tokens__") })
        let features = try #require(names.first { $0.hasSuffix(".npz") })
        unlink("\(out)/\(tokens)")
        mkfifo("\(out)/\(tokens)", 0o666)
        try plant(features, to: "/dev/zero")
        let verify = try Tool.run(["verify", out, "--quiet"], exits: 65)
        #expect(verify.output.contains("BAD   \(tokens)"), "\(verify.output)")
        #expect(verify.output.contains("BAD   \(features)"), "\(verify.output)")
        try Tool.run(arguments(), exits: 0)
        try Tool.run(["verify", out], exits: 0)
    }

    // MARK: report

    @Test func aReportDoesNotFollowALinkThatNobodyGave() throws {
        try Tool.run(arguments(), exits: 0)
        let keys = victim + "/docs/thesis.txt"
        try plant("report.html", to: keys)
        let outcome = try Tool.run(["report", out], exits: 74)
        #expect(
            outcome.errors.contains("cannot use \(out)/report.html: it is a link to \(keys)"),
            "\(outcome.errors)")
        try expectUntouched("report.html")
        // The user gives this link with `--output`, so the program must follow it.
        let page = try folder.write("old".utf8, "page.html")
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: page)
        let link = try folder.link("link.html", to: page)
        try Tool.run(["report", out, "--output", link], exits: 0)
        #expect(try TestData.bytes(page).count > 1000)
        var info = stat()
        #expect(stat(page, &info) == 0 && info.st_mode & 0o777 == 0o600)
    }

    /// Checks that `report` refuses a symlink in place of a result. The page could show a private file to others.
    @Test func aReportShowsNothingThatALinkLeadsTo() throws {
        try Tool.run(arguments(), exits: 0)
        let tokens = try #require(
            try FileManager.default.contentsOfDirectory(atPath: out).first {
                $0.contains("__tokens__")
            })
        try FileManager.default.moveItem(atPath: "\(out)/\(tokens)", toPath: folder.file("private"))
        try plant(tokens, to: folder.file("private"))
        let outcome = try Tool.run(["report", out], exits: 65)
        #expect(
            outcome.errors.contains("\(out)/\(tokens): is a link to \(folder.file("private"))"),
            "\(outcome.errors)")
        #expect(!fileExists(out + "/report.html"))
        // `verify` follows the link, because `verify` prints no contents.
        try Tool.run(["verify", out], exits: 0)
    }
}
