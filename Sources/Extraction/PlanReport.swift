// What a plan will do, before it does it: sizes, and for `--dry_run` all of it in words.

import ArrayFiles
import CUDA
import Corpus
import FoundationEssentials
import Gemma2
import Logging
import SparseAutoencoders
import Tensors

/// `save_dir`'s file system is too full for the plan.
public struct DiskSpaceError: Error, Equatable, CustomStringConvertible {
    /// The folder.
    public let saveDirectory: String
    /// Bytes that the plan's files will take, about.
    public let needed: Int
    /// Bytes that are free.
    public let free: Int

    /// Both sizes and what to do.
    public var description: String {
        "\(saveDirectory): about \(byteCount(needed)) will be written, but \(byteCount(free)) are free; free some space, give another --save_dir, fewer --layers or --n_docs_per_author, or --storage_format sparse"
    }
}

/// What will be written, about.
public struct SizeEstimate: Sendable {
    /// Bytes of files that are not there yet.
    public private(set) var files = 0
    /// Bytes of journals, which go when all files are there.
    public private(set) var journals = 0

    /// Zero bytes in a byte of DEFLATE, which has two bits for each 258.
    private static let zerosPerByte = 1032
    /// Compressed bytes of a one among zeros, and of an activation.
    private static let bytesPerFeature = (dense: 3, sparse: 3, raw: 4)

    /// What is free already or will be before anything is written.
    private let free: Int
    private let saveDirectory: String

    /// The estimate for what `plan` has still to write. Documents' tokens are guessed from their length;
    /// features that fire are taken to be as many as the SAEs' published average. With `overwriting`, what is there
    /// goes first. Throws `FileError`.
    public init(
        _ plan: RunPlan, _ inputs: Inputs, _ state: StateFolder, overwriting: Bool
    ) throws {
        saveDirectory = plan.saveDirectory
        free = try freeSpace(at: saveDirectory) + (overwriting ? state.clearableBytes(plan) : 0)
        let receipts = overwriting ? Receipts() : try state.completed()
        let naming = OutputNaming(label: plan.label)
        var unfinished: Set<Int> = []
        let isRaw = plan.activationValues == .raw
        for (number, author) in plan.authors.enumerated() {
            let missing = plan.items.filter {
                overwriting
                    || !receipts.attest(
                        $0.name(naming, author: author.author), in: plan.saveDirectory)
            }
            guard !missing.isEmpty else { continue }
            unfinished.insert(number)
            let bytes = author.documents.reduce(0) { $0 + $1.text.utf8.count }
            let tokens = author.documents.reduce(0) {
                $0 + min(plan.columns, $1.text.utf8.count / 3)
            }
            journals += tokens * 8
            for item in missing {
                switch item {
                case .activations(let hook, let isSparse):
                    let sae = inputs.saes.first { $0.chosen.hook == hook }!
                    let features = tokens * sae.chosen.id.averageL0
                    let values = isRaw ? features * SizeEstimate.bytesPerFeature.raw : 0
                    if isSparse {
                        files += features * SizeEstimate.bytesPerFeature.sparse + values
                    } else {
                        files += features * SizeEstimate.bytesPerFeature.dense + values
                        files += plan.rows * plan.columns * sae.dSAE * 4 / SizeEstimate.zerosPerByte
                    }
                case .shared(.tokens): files += author.documents.count * plan.columns * 16
                case .shared(.texts): files += bytes
                case .shared: files += plan.rows * plan.columns * 2
                }
            }
            for hook in Set(missing.compactMap(\.hook)) {
                let sae = inputs.saes.first { $0.chosen.hook == hook }!
                journals += tokens * sae.chosen.id.averageL0 * (isRaw ? 8 : 4)
            }
        }
        // What a run before this one has journaled for them takes its room already.
        if !overwriting {
            journals = max(0, journals - (try state.journalBytes(ofAuthors: unfinished)))
        }
    }

    /// Fails where `save_dir`'s file system has less room. Throws `DiskSpaceError`.
    public func check() throws {
        guard files + journals <= free else {
            throw DiskSpaceError(
                saveDirectory: saveDirectory, needed: files + journals, free: free)
        }
    }

    /// "about 1.2 GB of files, meanwhile 30 MB of journals; free: 80 GB".
    var description: String {
        "about \(byteCount(files)) of files, meanwhile \(byteCount(journals)) of journals; free: \(byteCount(free))"
    }
}

/// `--dry_run`.
public enum PlanReport {
    /// What `plan` would do, in lines of text: SAEs, authors with documents, tokens and what is already done,
    /// who does what, sizes. Nothing is written. Throws the readers' errors and `FileError`.
    public static func text(
        _ plan: RunPlan, _ inputs: Inputs, _ state: StateFolder, _ size: SizeEstimate,
        overwriting: Bool, log: Logger
    ) throws -> String {
        let tokenizing = try Tokenizing(plan)
        let threads = try ThreadPool(threadCount: plan.threads)
        let numbers = Array(plan.authors.indices)
        let union = JournalUnion(state, authors: Set(numbers), kernels: nil, log: log)
        if !overwriting { try union.refresh() }
        let receipts = overwriting ? Receipts() : try state.completed()
        let naming = OutputNaming(label: plan.label)

        var lines = [
            "model      \(plan.label) in \(plan.locations.modelDirectory)",
            "corpus     \(plan.locations.dataPaths.joined(separator: ", "))",
            "device     \(plan.devices.isEmpty ? "cpu" : plan.devices.map { "\($0.name) (\($0.token))" }.joined(separator: ", ")), \(plan.precision.rawValue)",
            "results    \(plan.saveDirectory), (\(plan.rows), \(plan.columns)) documents and tokens an author",
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
            let done = batches.indices.count {
                union.has(
                    author: number, batch: $0, documents: batches[$0].count,
                    hooks: plan.saes.map(\.hook))
            }
            let inPlace = try plan.items.count {
                try receipts.verify($0.name(naming, author: author.author), in: plan.saveDirectory)
                    == .verified
            }
            let ranks = (0..<plan.worldSize).filter {
                AuthorShare.shares(
                    rank: $0, worldSize: plan.worldSize, authorCount: plan.authors.count
                ).contains { $0.number == number }
            }
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
            "\(plan.authors.count) authors, \(documents) documents, \(total) tokens; batch size \(plan.batchLimit.description)",
            "this invocation is \(here) of \(plan.worldSize), \(plan.threads) \(plan.threads == 1 ? "thread" : "threads") each",
            "to be written: \(size.description)",
        ]
        return lines.map { $0 + "\n" }.joined()
    }
}
