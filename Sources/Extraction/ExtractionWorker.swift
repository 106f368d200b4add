// The program on a page: a worker goes through its authors; what the journals do not have yet it computes, what is
// not in its place it writes.

import ArrayFiles
import Corpus
import Foundation
import Gemma2
import Logging
import SparseAutoencoders
import Tensors
import Tokenization

/// Carries out one worker's task.
public final class ExtractionWorker {
    private let task: WorkerTask
    private let plan: RunPlan
    private let stop: StopFlag
    private let log: Logger
    private let send: (WorkerEvent) -> Void
    private let backend: OpenBLASBackend
    private let union: JournalUnion
    private let timing = Timing()
    private var tokenizing: Tokenizing?
    private var extractor: Extractor<OpenBLASBackend>?
    private var journal: JournalWriter?
    private var checksTaps: Bool
    private var batchCount = 0
    private var tokenCount = 0

    /// A worker for `task` that tells `send` what it does. Throws `BackendError`.
    public init(
        _ task: WorkerTask, stop: StopFlag, log: Logger, send: @escaping (WorkerEvent) -> Void
    ) throws {
        (self.task, plan) = (task, task.plan)
        (self.stop, self.log, self.send) = (stop, log, send)
        backend = try OpenBLASBackend(threadCount: plan.threads)
        union = JournalUnion(
            task.state, authors: Set(task.assignments.map(\.share.number)),
            kernels: backend.kernels, log: log)
        checksTaps = task.checksTaps
    }

    /// Does the task. What is finished by then stays finished, whatever is thrown: `StopRequest`, the readers'
    /// errors, `FileError`, `NonFiniteError`.
    public func run() throws {
        defer { try? journal?.synchronize() }
        var waiting: [WorkerTask.Assignment] = []
        for assignment in task.assignments {
            try stop.check()
            if try !process(assignment) { waiting.append(assignment) }
        }
        // Ranks that shared an author may have ended since; whoever looks last finds all of it.
        for assignment in waiting where try !process(assignment) {
            log.info(
                "\(assignment.author.author): this rank's share is done; the files are made by the rank that ends last"
            )
            send(.shareDone(author: assignment.share.number))
        }
        if batchCount > 0 { log.info("\(MemoryUse().description) at the end") }
        send(.finished(seconds: timing.seconds))
    }

    /// Brings an author as far as this rank can; says whether all its files are in their places.
    private func process(_ assignment: WorkerTask.Assignment) throws -> Bool {
        let (author, number) = (assignment.author, assignment.share.number)
        let missing = try missingItems(of: author)
        guard !missing.isEmpty else {
            send(.authorDone(author: number, made: 0))
            return true
        }
        send(.author(name: author.author))
        do {
            return try make(missing, of: assignment)
        } catch let error where !(error is StopRequest || error is ConfigurationConflict) {
            // Another process may have made the files meanwhile, and removed what this one was at work with.
            guard (try? missingItems(of: author))?.isEmpty == true else { throw error }
            journal = nil
            send(.authorDone(author: number, made: 0))
            return true
        }
    }

    /// Computes this rank's share of what `missing` needs, and makes the files if all of it is there then.
    private func make(_ missing: [OutputItem], of assignment: WorkerTask.Assignment) throws -> Bool
    {
        let (author, number) = (assignment.author, assignment.share.number)
        let tokenizing = try self.tokenizing ?? timing.measure(.loading) { try Tokenizing(plan) }
        self.tokenizing = tokenizing
        let sequences = tokenizing.sequences(author.documents, on: backend.threads)
        let batches = tokenizing.batches(sequences, plan)
        let hooks = plan.saes.map(\.hook).filter { hook in missing.contains { $0.hook == hook } }
        func has(_ batch: Int) -> Bool {
            union.has(author: number, batch: batch, documents: batches[batch].count, hooks: hooks)
        }
        try union.refresh()
        for batch in assignment.share.batches(of: batches.count) where !has(batch) {
            try compute(batch, sequences[batches[batch]], of: assignment, hooks: hooks)
        }
        // First shown to all machines, then looked for from all: of ranks that share an author, the one that ends
        // last sees everything.
        try journal?.synchronize()
        try journal?.checkInPlace()
        try union.refresh(fromOtherMachines: assignment.share.parts > 1)
        guard batches.indices.allSatisfy(has) else { return false }
        try write(
            missing, of: author, sequences,
            AuthorJournal(union: union, number: number, batchCount: batches.count))
        return true
    }

    /// The files that are not in their places, or not as they were made.
    private func missingItems(of author: AuthorDocuments) throws -> [OutputItem] {
        let naming = OutputNaming(label: plan.label)
        let receipts = try task.state.completed()
        return try timing.measure(.verifying) {
            try plan.items.filter { item in
                let name = item.name(naming, author: author.author)
                switch try receipts.verify(name, in: plan.saveDirectory) {
                case .verified: return false
                case .missing: return true
                case .changed:
                    log.warning(
                        "\(plan.saveDirectory)/\(name) is not as it was written; it is made again")
                    // Another rank may look at its size only, and think all is done.
                    try removeTree("\(plan.saveDirectory)/\(name)")
                    return true
                }
            }
        }
    }

    // MARK: Computing

    private func compute(
        _ batch: Int, _ sequences: ArraySlice<TokenSequence>, of assignment: WorkerTask.Assignment,
        hooks: [HookPoint]
    ) throws {
        try stop.check()
        let extractor = try self.extractor ?? load()
        try timing.measure(.model) {
            let checks = checksTaps && sequences.contains { !$0.tokens.isEmpty }
            let record = try extractor.extract(
                assignment.author, sequences, hooks: hooks, checkingTaps: checks)
            if checks { checksTaps = false }
            try (self.journal ?? begin()).append(
                author: assignment.share.number, batch: batch, documents: sequences.count,
                record.sections(values: plan.activationValues))
        }
        let tokens = sequences.reduce(0) { $0 + $1.tokens.count }
        (batchCount, tokenCount) = (batchCount + 1, tokenCount + tokens)
        send(
            .batch(
                author: assignment.share.number, batch: batch, documents: sequences.count,
                tokens: tokens))
        if batchCount % 10 == 0 {
            let rate = Double(tokenCount) / max(timing.seconds(.model), 1e-9)
            log.info(
                "\(assignment.author.author): \(sequences.endIndex) of \(assignment.author.documents.count) documents, \(decimals(rate, 1)) tokens/s, \(MemoryUse().description)"
            )
        }
    }

    private func begin() throws -> JournalWriter {
        try task.state.checkClaim()
        let journal = try JournalWriter(
            directory: task.state.directory,
            header: JournalHeader(
                saes: task.state.configuration.saes, items: plan.items, kernels: backend.kernels,
                host: ProcessInfo.processInfo.hostName, process: getpid()))
        do {
            // Once more: another run may have begun before this one showed that it has.
            try task.state.checkClaim()
        } catch {
            try removeTree(journal.path)
            throw error
        }
        self.journal = journal
        return journal
    }

    private func load() throws -> Extractor<OpenBLASBackend> {
        let extractor = try timing.measure(.loading) {
            let head = tokenizing!.head
            let config = try Gemma2Config(path: plan.locations.modelDirectory + "/config.json")
            let model = try Gemma2Model(
                try CheckpointFiles(directory: plan.locations.modelDirectory), config: config,
                maximumLength: plan.columns + head.tokens.count, on: backend)
            var parameters = [SAEParameters?](repeating: nil, count: plan.saes.count)
            try parameters.withUnsafeMutableBufferPointer { parameters in
                nonisolated(unsafe) let parameters = parameters
                try backend.threads.tryForEach(plan.saes.count) { item, _ in
                    let sae = plan.saes[item]
                    parameters[item] = try SAEParameters(
                        directory: sae.directory, dIn: config.width(of: sae.hook.site),
                        hookName: sae.hook.description)
                }
            }
            let saes = zip(plan.saes, parameters).map {
                ($0.hook, JumpReLUSAE($1!, on: backend))
            }
            log.info(
                "\(plan.label): \(config.nLayers) layers, \(plan.saes.count) SAEs; \(backend.kernels), \(plan.threads) \(plan.threads == 1 ? "thread" : "threads")"
            )
            return Extractor(
                plan: plan, head: head, model: model, saes: Dictionary(uniqueKeysWithValues: saes),
                backend: backend, log: log)
        }
        log.info("\(MemoryUse().description) after loading")
        send(.loaded(kernels: backend.kernels))
        self.extractor = extractor
        return extractor
    }

    // MARK: Writing

    private func write(
        _ items: [OutputItem], of author: AuthorDocuments, _ sequences: [TokenSequence],
        _ journal: AuthorJournal
    ) throws {
        send(.writing(author: journal.number))
        // Results of another configuration that have come meanwhile are not to be mixed with.
        try task.state.check()
        let hooks = plan.saes.map(\.hook).filter { hook in items.contains { $0.hook == hook } }
        let summary = try AuthorSummary(
            author, sequences, journal, hooks: hooks, values: plan.activationValues)
        let widths = try hooks.map { hook in
            let sae = plan.saes.first { $0.hook == hook }!
            return (hook, try SAEFile(directory: sae.directory).dSAE())
        }
        let seals = try timing.measure(.writing) {
            try FeatureWriter(
                plan: plan, author: author, summary: summary, journal: journal,
                tokenizer: tokenizing!.tokenizer, widths: Dictionary(uniqueKeysWithValues: widths),
                state: task.state, stop: stop
            ).write(items, on: backend.threads)
        }
        let names = Set(hooks.map(\.description))
        try task.state.add(
            AuthorReceipt(
                author: author.author, number: journal.number, lines: summary.lines,
                tokens: summary.tokens, truncatedRows: summary.truncatedRows,
                crossEntropySum: summary.crossEntropySum, entropySum: summary.entropySum,
                firingCounts: Dictionary(
                    uniqueKeysWithValues: summary.firingCounts.map { ($0.description, $1) }),
                saes: task.state.configuration.saes.filter { names.contains($0.key) },
                kernels: backend.kernels, files: seals))
        report(summary, hooks: hooks)
        send(.authorDone(author: journal.number, made: items.count))
    }

    private func report(_ summary: AuthorSummary, hooks: [HookPoint]) {
        let l0 = summary.meanL0(bySiteOf: hooks).map { "\($0.site.rawValue) \(decimals($0.l0, 2))" }
        let features = l0.isEmpty ? "" : ", features on per token: \(l0.joined(separator: ", "))"
        log.info(
            "\(summary.author): \(summary.tokens.count) documents, \(summary.tokenCount) tokens, mean cross-entropy \(decimals(summary.meanCrossEntropy, 3)), mean entropy \(decimals(summary.meanEntropy, 3))\(features)"
        )
        if !summary.truncatedRows.isEmpty {
            log.warning(
                "\(summary.author): \(summary.truncatedRows.count) of \(summary.tokens.count) documents were cut to \(plan.maximumLength) tokens (--max_seq_len)"
            )
        }
    }
}

extension AuthorSummary {
    /// Mean number of features that fired at a token, by hook.
    func meanL0(_ hook: HookPoint) -> Double {
        Double(firingCounts[hook] ?? 0) / Double(max(tokenCount, 1))
    }

    /// The same by site, averaged over layers.
    func meanL0(bySiteOf hooks: [HookPoint]) -> [(site: Site, l0: Double)] {
        Site.allCases.compactMap { site in
            let hooks = hooks.filter { $0.site == site }
            guard !hooks.isEmpty else { return nil }
            return (site, hooks.reduce(0) { $0 + meanL0($1) } / Double(hooks.count))
        }
    }
}
