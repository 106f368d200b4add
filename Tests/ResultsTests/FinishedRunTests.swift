// Tests of `FinishedRun`, which combines the entries of several invocations in run.json.

import Files
import Foundation
import Hooks
import TestSupport
import Testing

@testable import Results

struct FinishedRunTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private func entry(
        _ authors: [(String, Int)], layer: Int = 1, format: String = "dense",
        outcome: String = "done", length: Int = 360, more: String = "", label: String = "m/x",
        ranks: String = "[0]", world: Int = 1, waiting: String = ""
    ) -> String {
        let names = authors.map { name, line in
            """
            {"author": "\(name)", "tokens_per_row": [3, 0], "truncated_rows": [0], "source_lines": [\(line)],
             "files": [{"name": "f-\(name)-\(layer)", "size": 5, "crc32": 4294967295}]}
            """
        }
        return """
            {"model": {"label": "\(label)"}, "outcome": "\(outcome)", "shape": {"documents": 2, "tokens": 4},
             "settings": {"layers": [\(layer)], "storage_format": "\(format)", "max_seq_len": \(length)},
             "saes": [{"hook": "blocks.\(layer).hook_resid_post", "sae_name": "layer_\(layer)/width_16k/average_l0_7", "d_sae": 70}],
             \(more) "ranks": \(ranks), "world_size": \(world), "authors_not_complete": [\(waiting)],
             "authors": [\(names.joined(separator: ","))]}
            """
    }

    private func run(_ entries: [String], model: String? = nil) throws -> FinishedRun {
        try folder.write(#"{"runs": [\#(entries.joined(separator: ","))]}"#.utf8, "run.json")
        return try FinishedRun(folder.path, model: model)
    }

    @Test func layersAndRanksAddUp() throws {
        let both = try run([
            entry([("b", 20)], ranks: "[1]", world: 2),
            entry([("a", 10), ("c", 30)], ranks: "[0]", world: 2),
            entry([("a", 10)], layer: 0, format: "both"), entry([("a", 10)], format: "sparse"),
        ])
        #expect(both.authors.map(\.name) == ["a", "b", "c"])
        #expect(both.saes.map(\.hook.layer) == [0, 1])
        #expect(both.saes.allSatisfy { $0.hasDense && $0.hasSparse })
        #expect(both.authors[0].files.keys.sorted() == ["f-a-0", "f-a-1"])
        #expect(both.authors[0].files["f-a-0"] == FileSeal(size: 5, crc32: .max))
        #expect(both.notes == [] && both.saes[0].publishedL0 == 7)
        #expect(both.authors[0].tokenCount == 3 && both.rows == 2 && both.columns == 4)
    }

    /// Checks that entries before an overwrite are ignored, and entries with other settings than the newest entry.
    /// The entry of a failed invocation without authors does not count as the newest.
    @Test func onlyWhatIsThereCounts() throws {
        let new = try run([
            entry([("a", 1)], layer: 0), entry([("a", 1)], layer: 1, more: #""overwrote": true,"#),
            entry([], layer: 9, outcome: "failed", length: 99),
        ])
        #expect(new.saes.map(\.hook.layer) == [1] && new.authors.count == 1)
        let other = try run([entry([("a", 1)], length: 99), entry([("b", 1)])])
        #expect(other.authors.map(\.name) == ["b"])
    }

    @Test func whatIsMissingIsSaid() throws {
        let half = try run([
            entry([("a", 1)], ranks: "[0, 2]", world: 4),
            entry([], outcome: "stopped", ranks: "[0, 2]", world: 4, waiting: #""b", "a""#),
        ])
        #expect(half.notes.count == 3)
        #expect(half.notes[0].contains("was stopped"))
        #expect(half.notes[1].contains("ranks 1, 3 of 4"))
        #expect(half.notes[2].hasSuffix(": b"))
        let short = try run([entry([("a", 1)], more: #""reproducible": false,"#)])
        #expect(short.notes.count == 1 && short.notes[0].contains("memory ran out"))
    }

    @Test func severalModelsAreToldApart() throws {
        let entries = [entry([("a", 1)]), entry([("b", 1)], label: "m/y")]
        #expect(try run(entries, model: "m/y").authors.map(\.name) == ["b"])
        for model in [nil, "m/z"] {
            #expect(
                throws: ResultsError.whichModel(
                    directory: folder.path, asked: model, present: ["m/x", "m/y"])
            ) { try run(entries, model: model) }
        }
    }

    @Test(arguments: [
        "", "[]", "{}", #"{"runs": []}"#, #"{"runs": [{}]}"#,
        #"{"runs": [{"model": {"label": "m"}}]}"#,
        #"{"runs": [{"model": {"label": "m"}, "shape": {"documents": 1, "tokens": 2}, "saes": [{}]}]}"#,
        #"{"runs": [{"model": {"label": "m"}, "shape": {"documents": 1, "tokens": 2}, "authors": [{"author": "a", "tokens_per_row": [3]}]}]}"#,
        #"{"runs": [{"model": {"label": "m"}, "shape": {"documents": 1, "tokens": -2}}]}"#,
    ])
    func badManifestsAreRefused(text: String) throws {
        let path = try folder.write(text.utf8, "run.json")
        let error = #expect(throws: ResultsError.self) { try FinishedRun(folder.path) }
        #expect("\(error!)".hasPrefix(path))
        #expect("\(error!)".contains("repeat the run's command"))
    }
}
