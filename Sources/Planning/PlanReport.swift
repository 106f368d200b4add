// The text that `--dry_run` prints.

import AuthorReceipts
import CUDA
import Corpus
import Files
import FoundationEssentials
import Hooks
import Logging
import RunFiles
import RunState
import Tensors
import Threading
import Tokenization

/// Makes the text that `--dry_run` prints.
package enum PlanReport {
    /// Returns the lines for `plan`: inputs, SAEs, ranks and sizes; for each author the documents, tokens, finished
    /// batches and files. Writes no file. Throws the readers' errors and `FileError`.
    package static func lines(
        _ plan: RunPlan, _ inputs: InputFingerprints, _ state: StateFolder, _ size: SizeEstimate,
        overwriting: Bool, log: Logger
    ) throws -> [String] {
        let tokenizing = try Tokenizing(plan)
        let threads = try ThreadPool(threadCount: plan.threads)
        let numbers = Array(plan.authors.indices)
        let union = JournalUnion(state, authors: Set(numbers), kernels: nil, log: log) {
            RecordLimits(plan, widths: inputs.saes.map(\.dSAE))
        }
        if !overwriting { try union.refresh() }
        let receipts = overwriting ? Receipts() : try state.completed()
        let naming = plan.naming

        var lines = [
            "model      \(plan.label) in \(plan.locations.model.weights)",
            "corpus     \(plan.locations.dataPaths.joined(separator: ", "))",
            "device     \(plan.devices.isEmpty ? "cpu" : plan.devices.map { "\($0.name) (\($0.token))" }.joined(separator: ", ")), \(plan.precision.rawValue)",
            "results    \(plan.saveDirectory), arrays of \(plan.rows) documents by \(plan.columns) tokens for each author",
            "", "SAEs",
        ]
        lines += textTable(
            inputs.saes.map {
                [$0.chosen.hook.description, $0.chosen.id.description, "\($0.dSAE) features"]
            })
        var rows = [
            ["author", "documents", "tokens", "batches", "in journals", "files in place", "ranks"]
        ]
        var total = 0
        for (number, author) in plan.authors.enumerated() {
            let sequences = tokenizing.sequences(author.documents, on: threads)
            let batches = tokenizing.batches(sequences, plan)
            let tokens = sequences.reduce(0) { $0 + $1.tokens.count }
            total += tokens
            let done = try batches.indices.count {
                try union.has(
                    author: number, batch: $0, sequences[batches[$0]],
                    hooks: plan.saes.map(\.hook))
            }
            let inPlace = try plan.items.count {
                try receipts.verify($0.name(naming, author: author.author), in: plan.saveDirectory)
                    == .verified
            }
            let ranks = AuthorShare.ranks(
                ofAuthor: number, worldSize: plan.worldSize, authorCount: plan.authors.count)
            rows.append([
                author.author, "\(author.documents.count)", "\(tokens)",
                "\(batches.count)", "\(done)", "\(inPlace) of \(plan.items.count)",
                ranks.map { "\($0)" }.joined(separator: " "),
            ])
        }
        lines += [""] + textTable(rows)
        let documents = plan.authors.reduce(0) { $0 + $1.documents.count }
        let here =
            plan.ranks.count == 1
            ? "rank \(plan.ranks.lowerBound)"
            : "ranks \(plan.ranks.lowerBound) to \(plan.ranks.upperBound - 1)"
        lines += [
            "",
            "\(counted(plan.authors.count, "author")), \(counted(documents, "document")), \(counted(total, "token")); batch size \(plan.batchLimit.description)",
            "this invocation is \(here) of \(plan.worldSize), \(plan.threadsDescription(each: true))",
            "to be written: \(size.description)",
        ]
        if let names = FileNameCheck(plan).description { lines.append("names of files: \(names)") }
        return lines
    }
}
