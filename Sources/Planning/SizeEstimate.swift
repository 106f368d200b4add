// Estimates the size of the files that a plan will write, and checks whether the file system has space for them.

import AuthorReceipts
import Corpus
import Files
import Hooks
import Logging
import RunFiles
import RunState

/// An estimate of the files that a plan still has to write.
package struct SizeEstimate: Sendable {
    /// The number of bytes of the output files that are not complete yet.
    package private(set) var files = 0
    /// The number of bytes of journals. Journals are removed when all output files are complete.
    package private(set) var journals = 0
    /// The number of files that the run will make, including those in `.sae-extract`.
    package private(set) var fileCount = 0

    /// The number of zero bytes that one byte of DEFLATE encodes. (Two bits encode 258 zero bytes.)
    private static let zerosPerByte = 1032
    /// The compressed size in bytes of one feature that fires, in dense and in sparse files. With
    /// `--activation_values raw`, the activation takes `raw` bytes more.
    private static let bytesPerFeature = (dense: 3, sparse: 3, raw: 4)

    /// The number of files in `.sae-extract`. A run has the state, the entries for `run.json`, and folders. A worker
    /// has a journal, a file of receipts, and an unfinished file.
    private static let ownFiles = (run: 12, worker: 3)

    /// The free bytes and free inodes of the file system, plus those that `--overwrite` will free; nil if unknown.
    private let free: (bytes: Int?, files: Int?)
    private let saveDirectory: String

    /// Estimates the files that `plan` still has to write. The number of tokens follows from the sizes of the texts.
    /// The number of features that fire is the average over complete authors, or the published L0 if no author is
    /// complete. If `overwriting` is true, existing files do not count, because they are removed first. Throws
    /// `FileError`, and `UsageError` if an array is too large.
    package init(
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
        // The batches in existing journals are on the disk already, so their bytes are subtracted.
        if !overwriting {
            journals = max(0, journals - (try state.journalBytes(ofAuthors: unfinished)))
        }
    }

    /// Returns the uncompressed size in bytes of an author's dense array. Throws `UsageError` if it exceeds the range
    /// of `Int`.
    private static func denseSize(_ plan: RunPlan, _ dSAE: Int) throws -> Int {
        let size = [plan.columns, dSAE, 4].reduce(plan.rows) { $0.clampedMultiplied(by: $1) }
        guard size < .max else {
            throw UsageError(
                "--max_seq_len",
                "\(plan.maximumLength) gives arrays of shape (\(plan.rows), \(plan.columns), \(dSAE)) in float32, which are too large for a file; give a smaller --max_seq_len, or --storage_format sparse"
            )
        }
        return size
    }

    /// Returns the estimated number of features that fire at a token, by hook: the average over complete authors, or
    /// the published L0 if no author is complete.
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

    /// Throws `DiskSpaceError` if the file system of `save_dir` has too little free space. If `ignoringShortage` is
    /// true, logs a warning instead. If the free space is unknown, only logs this.
    package func check(ignoringShortage: Bool, log: Logger) throws {
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
                    "--ignore_free_space: \(saveDirectory): about \(byteCount(needed)) will be written, but the file system reports \(byteCount(free)) of free space; the run goes on"
                )
            case .files(let needed, let free):
                log.warning(
                    "--ignore_free_space: \(saveDirectory): about \(needed) files will be made, but the file system reports inodes for \(free) more; the run goes on"
                )
            }
        }
        if free.bytes == nil {
            log.info(
                "\(saveDirectory): its file system does not say how much space is free; the run needs about \(byteCount(needed))"
            )
        }
    }

    /// The estimate as text, such as "about 1.2 GB in 80 files, and 30 MB of journals during the run; free: 80 GB".
    var description: String {
        let space = free.bytes.map(byteCount) ?? "not known"
        let inodes = free.files.map { ", \($0) inodes" } ?? ""
        return
            "about \(byteCount(files)) in \(fileCount) files, and \(byteCount(journals)) of journals during the run; free: \(space)\(inodes)"
    }
}
