// Tests of the estimate of the space that a run needs.

import AuthorReceipts
import Corpus
import Files
import Hooks
import RunFiles
import Tensors
import TestSupport
import Testing
import Threading

@testable import Planning
@testable import RunState

struct SizeEstimateTests {
    private let folder: TemporaryFolder
    private let plan: RunPlan
    private let inputs: InputFingerprints
    private let state: StateFolder
    private let hook = HookPoint(layer: 3, site: .att)

    init() throws {
        folder = try TemporaryFolder()
        var options = RunOptions()
        options.layers = [3]
        options.sites = [.att]
        options.modelPath = TestData.tiny + "/model"
        options.saeDirectory = TestData.tiny + "/sae"
        options.dataPath = TestData.tiny + "/authormix.jsonl"
        options.saveDirectory = folder.path
        plan = try RunPlan(local: options)
        inputs = try InputFingerprints(plan)
        var state = StateFolder(plan.files, ResumeSettings(plan, inputs))
        try state.open()
        self.state = state
    }

    private func estimate(overwriting: Bool = false) throws -> SizeEstimate {
        // A new state folder object, as a new process would have.
        try SizeEstimate(
            plan, inputs, StateFolder(plan.files, state.settings), overwriting: overwriting)
    }

    /// Checks that the estimate of a resumed run does not include the batches that are in journals already.
    @Test func whatIsJournaledIsNotAskedForAgain() throws {
        let before = try estimate()
        let journal = try JournalWriter(
            directory: state.directory,
            header: JournalHeader(
                saes: state.settings.saes, items: [], kernels: "k", host: "h", process: 1))
        let record = BatchRecord(
            documents: [DocumentRecord(tokens: [5, 6], crossEntropy: [1, 2], entropy: [0, 1])],
            features: [hook: SparseRows(starts: [0, 1, 2], columns: [7, 0], values: [1, 1])])
        let threads = try ThreadPool(threadCount: 1)
        for batch in 0..<3 {
            try journal.append(
                author: 4, batch: batch, documents: 1,
                record.sections(values: .binary, on: threads))
        }
        let frames = try state.journalBytes(ofAuthors: [4])
        let after = try estimate()
        #expect(frames > 0 && after.journals == before.journals - frames)
        #expect(after.files == before.files)
        // The journals of complete authors stay until all authors are complete. They do not reduce the estimate.
        #expect(try state.journalBytes(ofAuthors: [0, 1, 2, 3]) == 0)
        // With `overwriting`, the run writes everything again, so journals do not reduce the estimate.
        let anew = try estimate(overwriting: true)
        #expect(anew.journals == before.journals && anew.files == before.files)
    }

    /// Checks that adding large counts in receipts does not overflow.
    @Test func claimsOfReceiptsAreBounded() throws {
        for number in plan.authors.indices.dropFirst() {
            let author = plan.authors[number]
            var tokens = author.documents.map { _ in 0 }
            tokens[0] = 1
            try state.add(
                AuthorReceipt(
                    author: author.author, number: number, lines: author.documents.map(\.line),
                    tokens: tokens, truncatedRows: [], dividedBatches: [], crossEntropySum: 1,
                    entropySum: 1, firingCounts: [hook.description: 1 << 50],
                    saes: state.settings.saes, kernels: "k",
                    files: Dictionary(
                        uniqueKeysWithValues: plan.items.map {
                            (
                                $0.name(plan.naming, author: author.author),
                                FileSeal(size: 5, crc32: 7)
                            )
                        })))
        }
        #expect(try state.completed().summaries.count == plan.authors.count - 1)
        _ = try estimate()
    }
}
