// The state of a small run, made without a plan, a model or a corpus.

import AuthorReceipts
import Files
import Hooks
import RunFiles
import TestSupport

@testable import RunState

/// The planned files and the settings of a small run in a temporary folder.
struct SmallRun {
    let folder: TemporaryFolder
    let hook: HookPoint
    let files: PlannedFiles

    init(hook: HookPoint) throws {
        folder = try TemporaryFolder()
        self.hook = hook
        files = PlannedFiles(
            saveDirectory: folder.path, label: "model", naming: OutputNaming(label: "model"),
            hooks: [hook], format: .dense,
            authors: ["orchard", "harbour", "quarry works", "marsh-9", "lantérne"].enumerated()
                .map { .init(name: $1, documents: $0 + 1) }, columns: 359)
    }

    /// Returns the run's settings, with the given value of `--feature_threshold`.
    func settings(threshold: Float = 1) -> ResumeSettings {
        ResumeSettings(
            settings: [
                .init(name: "corpus", value: "15 documents of 5 authors"),
                .init(name: "--feature_threshold", value: "\(threshold)"),
            ], selection: [.init(name: "--n_docs", value: "none")],
            saes: [hook.description: "an SAE"])
    }

    /// Returns the state folder as a new process sees it.
    func state(threshold: Float = 1) -> StateFolder {
        StateFolder(files, settings(threshold: threshold))
    }

    /// Returns a receipt for all files of the author with index `number`.
    func receipt(_ number: Int, saes: [String: String]? = nil) -> AuthorReceipt {
        let author = files.authors[number]
        return AuthorReceipt(
            author: author.name, number: number, lines: Array(0..<author.documents),
            tokens: (0..<author.documents).map { _ in 3 }, truncatedRows: [], dividedBatches: [],
            crossEntropySum: 1, entropySum: 1, firingCounts: [:], saes: saes ?? settings().saes,
            kernels: "k",
            files: Dictionary(
                uniqueKeysWithValues: files.items.map {
                    ($0.name(files.naming, author: author.name), FileSeal(size: 5, crc32: 7))
                }))
    }
}
