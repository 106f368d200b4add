// What a plan will write, about, and whether there is room for it.

import AuthorReceipts
import Corpus
import Files
import FoundationEssentials
import Hooks
import Logging
import RunFiles
import RunState

/// `save_dir`'s file system is too full for the plan.
public struct DiskSpaceError: Error, Equatable, CustomStringConvertible {
    /// What there is too little of.
    public enum Shortage: Equatable, Sendable {
        /// Bytes that the plan's files will take, about, and bytes that are free.
        case bytes(needed: Int, free: Int)
        /// Files that will be made, and how many more the file system takes.
        case files(needed: Int, free: Int)
    }

    /// The folder.
    public let saveDirectory: String
    /// What is short there.
    public let shortage: Shortage

    /// Both sizes and what to do.
    public var description: String {
        let overruling = "; where the file system says less than there is, --ignore_free_space"
        switch shortage {
        case .bytes(let needed, let free):
            return
                "\(saveDirectory): about \(byteCount(needed)) will be written, but \(byteCount(free)) are free; free some space, give another --save_dir, fewer --layers or --n_docs_per_author, or --storage_format sparse\(overruling)"
        case .files(let needed, let free):
            return
                "\(saveDirectory): about \(needed) files will be made, but its file system has inodes for \(free) more; remove files there, give another --save_dir, or fewer --layers, --layer_types or authors\(overruling)"
        }
    }
}

/// What will be written, about.
public struct SizeEstimate: Sendable {
    /// Bytes of files that are not there yet.
    public private(set) var files = 0
    /// Bytes of journals, which go when all files are there.
    public private(set) var journals = 0
    /// How many files are to be made, our own included.
    public private(set) var fileCount = 0

    /// Zero bytes in a byte of DEFLATE, which has two bits for each 258.
    private static let zerosPerByte = 1032
    /// Compressed bytes of a one among zeros, and of an activation.
    private static let bytesPerFeature = (dense: 3, sparse: 3, raw: 4)

    /// Our own files: state, entries of `run.json`, folders; and of each worker a journal, receipts, one being written.
    private static let ownFiles = (run: 12, worker: 3)

    /// What is free already or will be before anything is written; nil where it is not known.
    private let free: (bytes: Int?, files: Int?)
    private let saveDirectory: String

    /// The estimate for what `plan` has still to write. Documents' tokens are guessed from their length;
    /// features that fire are taken to be as many as the SAEs' published average. With `overwriting`, what is there
    /// goes first. Throws `FileError`.
    public init(
        _ plan: RunPlan, _ inputs: InputFingerprints, _ state: StateFolder, overwriting: Bool
    ) throws {
        saveDirectory = plan.saveDirectory
        let space = FreeSpace(at: saveDirectory)
        let (bytes, count) =
            overwriting
            ? (try state.clearableBytes(plan.files), try state.clearableFiles(plan.files)) : (0, 0)
        func sum(_ free: Int?, _ more: Int) -> Int? {
            free.map { $0 > .max - more ? .max : $0 + more }
        }
        free = (sum(space.bytes, bytes), sum(space.files, count))
        let receipts = overwriting ? Receipts() : try state.completed()
        var unfinished: Set<Int> = []
        let isRaw = plan.activationValues == .raw
        let saes = Dictionary(uniqueKeysWithValues: inputs.saes.map { ($0.chosen.hook, $0) })
        let firing = SizeEstimate.features(inputs, receipts)
        for (number, author) in plan.authors.enumerated() {
            let missing = plan.items.filter {
                overwriting
                    || !receipts.attest(
                        $0.name(plan.naming, author: author.author), in: plan.saveDirectory)
            }
            guard !missing.isEmpty else { continue }
            fileCount += missing.count
            unfinished.insert(number)
            func add(_ bytes: Int, to sum: inout Int) { sum = sum.clampedAdding(bytes) }
            let bytes = author.documents.reduce(0) { $0 + $1.text.utf8.count }
            let tokens = author.documents.reduce(0) {
                $0 + min(plan.columns, $1.text.utf8.count / 3)
            }
            add(tokens * 8, to: &journals)
            for item in missing {
                switch item {
                case .activations(let hook, let isSparse):
                    let features = Int(clamping: Double(tokens) * firing[hook]!)
                    let each =
                        isSparse
                        ? SizeEstimate.bytesPerFeature.sparse : SizeEstimate.bytesPerFeature.dense
                    let values = isRaw ? SizeEstimate.bytesPerFeature.raw : 0
                    add(features.clampedMultiplied(by: each + values), to: &files)
                    if !isSparse {
                        let size = try SizeEstimate.denseSize(plan, saes[hook]!.dSAE)
                        add(size / SizeEstimate.zerosPerByte, to: &files)
                    }
                case .shared(.tokens):
                    add(author.documents.count * plan.columns * 16, to: &files)
                case .shared(.texts): add(bytes, to: &files)
                case .shared: add(plan.rows * plan.columns * 2, to: &files)
                }
            }
            for hook in Set(missing.compactMap(\.hook)) {
                let features = Int(clamping: Double(tokens) * firing[hook]!)
                add(features.clampedMultiplied(by: isRaw ? 8 : 4), to: &journals)
            }
        }
        if fileCount > 0 {
            fileCount += SizeEstimate.ownFiles.run + SizeEstimate.ownFiles.worker * plan.workers
        }
        // What a run before this one has journaled for them takes its room already.
        if !overwriting {
            journals = max(0, journals - (try state.journalBytes(ofAuthors: unfinished)))
        }
    }

    /// Bytes of an author's dense array, unpacked. Throws `UsageError` where no array can be so large.
    private static func denseSize(_ plan: RunPlan, _ dSAE: Int) throws -> Int {
        let size = [plan.columns, dSAE, 4].reduce(plan.rows) { $0.clampedMultiplied(by: $1) }
        guard size < .max else {
            throw UsageError(
                "--max_seq_len",
                "\(plan.maximumLength) gives arrays of (\(plan.rows), \(plan.columns), \(dSAE)) float32, more than any file can hold; give a smaller one, or --storage_format sparse"
            )
        }
        return size
    }

    /// Features that fire at a token, about, by hook: as many as at the tokens of authors that are complete, else as the
    /// SAE was published with.
    private static func features(_ inputs: InputFingerprints, _ receipts: Receipts) -> [HookPoint:
        Double]
    {
        let complete = receipts.summaries
        return Dictionary(
            uniqueKeysWithValues: inputs.saes.map { sae in
                let hook = sae.chosen.hook
                let known = complete.filter { $0.firingCounts[hook.description] != nil }
                let tokens = known.map(\.tokens.clampedSum).clampedSum
                let count = known.map { $0.firingCounts[hook.description]! }.clampedSum
                let published = Double(min(sae.chosen.id.averageL0, sae.dSAE))
                return (hook, tokens > 0 ? Double(count) / Double(tokens) : published)
            })
    }

    /// Fails where `save_dir`'s file system has less room; where that is to be ignored, or is not known, says so to `log`.
    /// Throws `DiskSpaceError`.
    public func check(ignoringShortage: Bool, log: Logger) throws {
        var shortages: [DiskSpaceError.Shortage] = []
        let needed = files.clampedAdding(journals)
        if let bytes = free.bytes, needed > bytes {
            shortages.append(.bytes(needed: needed, free: bytes))
        }
        if let count = free.files, fileCount > count {
            shortages.append(.files(needed: fileCount, free: count))
        }
        for shortage in shortages {
            let error = DiskSpaceError(saveDirectory: saveDirectory, shortage: shortage)
            guard ignoringShortage else { throw error }
            switch shortage {
            case .bytes(let needed, let free):
                log.warning(
                    "--ignore_free_space: \(saveDirectory): about \(byteCount(needed)) will be written, though its file system says that \(byteCount(free)) are free"
                )
            case .files(let needed, let free):
                log.warning(
                    "--ignore_free_space: \(saveDirectory): about \(needed) files will be made, though its file system says that it has inodes for \(free) more"
                )
            }
        }
        if free.bytes == nil {
            log.info(
                "\(saveDirectory): its file system does not say how much space is free; the run needs about \(byteCount(needed))"
            )
        }
    }

    /// "about 1.2 GB in 80 files, meanwhile 30 MB of journals; free: 80 GB".
    var description: String {
        let space = free.bytes.map(byteCount) ?? "not known"
        let inodes = free.files.map { ", \($0) inodes" } ?? ""
        return
            "about \(byteCount(files)) in \(fileCount) files, meanwhile \(byteCount(journals)) of journals; free: \(space)\(inodes)"
    }
}
