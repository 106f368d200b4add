// Tests of warnings about author names that match nothing, and about texts that begin with a chat template.

import Foundation
import TestSupport
import Testing

struct WarningTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// Returns the warnings and errors of a dry run on `corpus`, which is by default the fixture's corpus.
    private func warnings(
        _ arguments: [String], corpus: String = TestData.tiny + "/authormix.jsonl",
        status: Int32 = 0
    ) throws -> [String] {
        let outcome = try Tool.run(
            Tool.arguments(corpus: corpus, layers: [0], saveDirectory: folder.file("out"))
                + ["--dry_run"] + arguments, exits: status)
        return outcome.errors.components(separatedBy: "\n").filter {
            $0.hasPrefix("warning: ") || $0.hasPrefix("Error: ")
        }
    }

    @Test(arguments: [
        (
            ["--exclude_authors", "harbour,orchard"], "'harbour,orchard'",
            "--exclude_authors harbour orchard"
        ),
        (["--exclude_authors", "Harbour"], "'Harbour'", "did you mean 'harbour'"),
        (["--exclude_authors", " harbour"], "' harbour'", "did you mean 'harbour'"),
        (
            ["--exclude_authors", "quarry\u{A0}works"], "'quarry\u{A0}works'",
            "did you mean 'quarry works'"
        ),
        (
            ["--include_authors", "harbour", "nobody"], "'nobody'",
            "the corpus has 'orchard', 'quarry works', 'harbour'"
        ),
    ])
    func namesThatMatchNothingAreSaid(arguments: [String], name: String, advice: String) throws {
        let warnings = try warnings(arguments)
        #expect(warnings.count == 1)
        #expect(warnings.first?.contains("no record's \"style\" is \(name)") == true, "\(warnings)")
        #expect(warnings.first?.contains(advice) == true, "\(warnings)")
    }

    @Test func eachNameIsSaidOnce() throws {
        #expect(try warnings(["--exclude_authors", "x", "y", "x", "harbour"]).count == 2)
        #expect(try warnings(["--exclude_authors", "harbour"]).isEmpty)
        // With `--n_docs 1` the corpus is not read to its end. The name may come later, so there must be no warning.
        #expect(try warnings(["--exclude_authors", "x", "--n_docs", "1"]).isEmpty)
    }

    @Test func whereNobodyIsLeftTheNameIsSaidToo() throws {
        let errors = try warnings(["--include_authors", "harbour,orchard"], status: 65)
        #expect(errors.count == 1 && errors[0].contains("no author is left"))
        #expect(errors[0].contains("--include_authors harbour orchard"), "\(errors)")
    }

    private func corpus(_ beginnings: [String]) throws -> String {
        let words = String(repeating: "tide ", count: 40)
        let lines = beginnings.map { "{\"style\":\"a\",\"text\":\"\($0)\(words)\"}" }
        return try folder.write(lines.joined(separator: "\n").utf8, "corpus.jsonl")
    }

    @Test func templatesAreSaid() throws {
        let corpus = try corpus([
            "", "<bos><start_of_turn>user\\n", " \\n<start_of_turn>", "a <bos>", "<bo",
        ])
        let warnings = try warnings([], corpus: corpus)
        #expect(warnings.count == 1)
        #expect(
            warnings.first?.contains("2 of 5 documents begin with <bos> or a turn marker") == true,
            "\(warnings)")
        #expect(warnings.first?.contains("line 2") == true)
        // Only selected documents count. `--n_docs 1` selects a document without a template.
        #expect(try self.warnings(["--n_docs", "1"], corpus: corpus).isEmpty)
    }

    @Test func aTemplateForAPrefixIsSaid() throws {
        let corpus = try corpus([""])
        let warnings = try warnings(["--prefix", "<bos>Say: "], corpus: corpus)
        #expect(warnings.count == 1 && warnings[0].contains("--prefix begins with <bos>"))
    }
}
