// The work of a worker process. For each of its authors, it computes the batches that no journal has, and writes the
// missing files. While a CUDA device computes, the worker stores earlier batches and writes files of earlier authors.

import AuthorReceipts
import CPUBackend
import CUDA
import CUDABackend
import Corpus
import Files
import FoundationEssentials
import Gemma2
import Glibc
import Hooks
import Logging
import Planning
import RunFiles
import RunState
import SparseAutoencoders
import Tensors
import Threading
import Tokenization

/// Carries out `task` on the device that its plan names. Calls `send` with each event, from any thread. Keeps the
/// batches and files that are finished before an error. Throws `StopRequest`, the readers' errors, `FileError`,
/// `NonFiniteError`, `ThreadError`, `CPUBackendError` and `CUDAError`.
package func carryOut(
    _ task: WorkerTask, stop: StopFlag, log: Logger,
    send: @escaping @Sendable (WorkerEvent) -> Void
) throws {
    let threads = try ThreadPool(threadCount: task.plan.threads)
    if task.plan.devices.isEmpty {
        let backend = try OpenBLASBackend(on: threads, precision: task.plan.precision)
        try ExtractionWorker(task, backend, threads, stop: stop, log: log, send: send).run()
    } else {
        let backend = try CUDABackend(
            precision: task.plan.precision, threads: threads,
            environment: ProcessInfo.processInfo.environment)
        try ExtractionWorker(task, backend, threads, stop: stop, log: log, send: send).run()
    }
}

/// Carries out a `WorkerTask` on one backend.
final class ExtractionWorker<B: Backend> {
    private let task: WorkerTask
    private let plan: RunPlan
    private let stop: StopFlag
    private let log: Logger
    private let send: @Sendable (WorkerEvent) -> Void
    private let backend: B
    private let threads: ThreadPool
    private let union: JournalUnion
    private let timing = Timing()
    /// Writes authors' files on other threads while the device computes; nil on the CPU.
    private let writing: BackgroundWork?
    private var tokenizing: Tokenizing?
    private var computer: BatchComputer<B>?
    private var watch: FileWatch?
    private var journal: JournalWriter?
    /// Whether the next batch with tokens is used to measure how well each SAE reconstructs its activations.
    private var checksTaps: Bool
    private var batchCount = 0
    /// The queue of steps: the batches that were started, and a step `end` after the last batch of each author.
    private var underWay: [Step] = []
    /// Authors whose files cannot be written yet, because batches of other ranks are missing.
    private var waiting: [WorkerTask.Assignment] = []

    private enum Step {
        /// A batch that was started. If `checks` is true, it is used to measure how well each SAE reconstructs its
        /// activations.
        case batch(Int, of: AuthorWork, checks: Bool, result: Deferred<BatchRecord>)
        /// The end of an author. It comes after all batches of the author, so the author's files can be written.
        case end(AuthorWork)

        var isBatch: Bool { if case .batch = self { true } else { false } }
    }

    init(
        _ task: WorkerTask, _ backend: B, _ threads: ThreadPool, stop: StopFlag, log: Logger,
        send: @escaping @Sendable (WorkerEvent) -> Void
    ) throws {
        (self.task, plan) = (task, task.plan)
        (self.stop, self.log, self.send) = (stop, log, send)
        (self.backend, self.threads) = (backend, threads)
        // On the CPU, writing files in the background would take cores from the computation.
        writing =
            backend.batchesInFlight > 1
            ? try BackgroundWork(threadCount: threads.threadCount) : nil
        union = JournalUnion(
            task.state, authors: Set(task.assignments.map(\.share.number)),
            kernels: backend.kernels, log: log
        ) { [plan = task.plan] in
            RecordLimits(
                plan,
                widths: try plan.saes.map { try SAEFile(directory: $0.directory).dSAE() })
        }
        checksTaps = task.checksTaps
    }

    func run() throws {
        defer { try? journal?.synchronize() }
        task.state.expect(
            task.assignments.map {
                (
                    $0.share.number,
                    .init(name: $0.author.author, documents: $0.author.documents.count)
                )
            },
            columns: plan.columns, areAll: false)
        _ = try task.state.completed()
        do {
            for assignment in task.assignments {
                try stop.check()
                try begin(assignment)
            }
            try takeIn(until: 0)
            // Meanwhile, another rank may have stored the last batches of a shared author. So each waiting author is
            // tried once more. The rank that tries last finds all batches.
            let again = waiting
            waiting = []
            for assignment in again { try begin(assignment) }
            try takeIn(until: 0)
            for assignment in waiting {
                log.info(
                    "\(assignment.author.author): this rank's share is done; the rank that ends last writes the author's files"
                )
                send(.shareDone(author: assignment.share.number))
            }
            try writing?.finish()
        } catch {
            // Batches under way are finished and stored, if the device and the disk still work.
            try? takeInBatches()
            try? writing?.finish()
            throw error
        }
        if batchCount > 0 { log.info("\(MemoryUse().description) at the end") }
        var seconds = timing.seconds
        if let device = backend.deviceSeconds, batchCount > 0 {
            (seconds["gpu_busy"], seconds["gpu_span"]) = (device.busy, device.span)
        }
        for (part, value) in backend.partSeconds { seconds["model_\(part.rawValue)"] = value }
        send(.finished(seconds: seconds))
    }

    // MARK: Authors

    /// Computes the missing batches of this rank's share of an author, and queues the writing of the author's files.
    /// If all files are in place, does neither.
    private func begin(_ assignment: WorkerTask.Assignment) throws {
        let (author, number) = (assignment.author, assignment.share.number)
        let missing = try missingItems(of: author)
        guard !missing.isEmpty else {
            send(.authorDone(author: number, made: 0))
            return
        }
        send(.author(name: author.author))
        if tokenizing == nil {
            tokenizing = try timing.measure(.loading) { try Tokenizing(plan) }
        }
        let tokenizing = tokenizing!
        let sequences = tokenizing.sequences(author.documents, on: threads)
        let work = AuthorWork(
            assignment, missing,
            plan.saes.map(\.hook).filter { hook in missing.contains { $0.hook == hook } },
            sequences, tokenizing.batches(sequences, plan))
        try attempt(work) { try union.refresh() }
        let share = assignment.share.batches(of: work.batches.count)
        func documents(_ batches: [Int]) -> Int {
            batches.reduce(0) { $0 + work.batches[$1].count }
        }
        send(
            .share(
                author: number, documents: documents(Array(share)),
                done: documents(try share.filter { try has($0, of: work) })))
        for batch in share where !work.isDoneElsewhere {
            guard try !has(batch, of: work) else { continue }
            try compute(batch, of: work)
        }
        underWay.append(.end(work))
        try takeIn(until: backend.batchesInFlight - 1)
    }

    /// Whether the journals have the whole batch, with the features of all hooks of `work`.
    private func has(_ batch: Int, of work: AuthorWork) throws -> Bool {
        try union.has(
            author: work.number, batch: batch, work.sequences[work.batches[batch]],
            hooks: work.hooks)
    }

    /// Runs `body` for an author. Ignores an error if all files of the author are in place: another process may have
    /// completed the author and removed the journals that `body` reads. Never ignores `StopRequest` and
    /// `ConfigurationConflict`.
    private func attempt(_ work: AuthorWork, _ body: () throws -> Void) throws {
        guard !work.isDoneElsewhere else { return }
        do {
            try body()
        } catch let error where !(error is StopRequest || error is ConfigurationConflict) {
            try ignoreIfDone(error, work)
            journal = nil
            work.isDoneElsewhere = true
        }
    }

    /// Ignores `error` if all files of the author are in place. Otherwise throws `error`.
    private func ignoreIfDone(_ error: any Error, _ work: AuthorWork) throws {
        guard (try? missingItems(of: work.author))?.isEmpty == true else { throw error }
        send(.authorDone(author: work.number, made: 0))
    }

    /// Writes the author's files if the journals have all batches of the author. Otherwise adds the author to
    /// `waiting`.
    private func end(_ work: AuthorWork) throws {
        var isComplete = true
        try attempt(work) {
            // Synchronizes this rank's batches before it looks for those of other ranks. So the rank that ends last
            // sees all batches of a shared author.
            let isShared = work.assignment.share.parts > 1
            if isShared || writing == nil { try journal?.synchronize() }
            try journal?.checkInPlace()
            func hasAll() throws -> Bool {
                try work.batches.indices.allSatisfy { try has($0, of: work) }
            }
            let hasOwn = try hasAll()
            if isShared || !hasOwn { try union.refresh(fromOtherMachines: isShared) }
            isComplete = try hasAll()
            guard isComplete else { return }
            guard let writing else { return try write(work, on: threads) }
            try writing.begin { [self, journal] threads in
                do {
                    try journal?.synchronize()
                    try write(work, on: threads)
                } catch let error where !(error is StopRequest || error is ConfigurationConflict) {
                    // As in `attempt`: another process may have completed the author.
                    try ignoreIfDone(error, work)
                }
            }
        }
        if !isComplete { waiting.append(work.assignment) }
    }

    /// Returns the author's files that are missing or have changed. Removes the changed files.
    private func missingItems(of author: AuthorDocuments) throws -> [OutputItem] {
        // Receipts of other processes are read again only if a file does not match the known receipts. With thousands
        // of authors and processes, reading them for each author would take longer than the computation.
        var receipts = task.state.known.receipts
        var isNew = false
        return try timing.measure(.verifying) {
            try plan.items.filter { item in
                let name = item.name(plan.naming, author: author.author)
                let path = "\(plan.saveDirectory)/\(name)"
                var state = try receipts.verify(name, in: plan.saveDirectory)
                if state != .verified, !isNew, fileExists(path) {
                    (receipts, isNew) = (try task.state.completed(), true)
                    state = try receipts.verify(name, in: plan.saveDirectory)
                }
                switch state {
                case .verified: return false
                case .missing: return true
                case .changed:
                    log.warning("\(path) has changed since it was written; the run writes it again")
                    // Removes the changed file. Other ranks compare only sizes, and could take the file for complete.
                    try GuardedPath(plan.saveDirectory, name).remove()
                    return true
                }
            }
        }
    }

    // MARK: Batches

    /// Starts a batch, then stores results of earlier batches until the backend can queue another batch. If memory is
    /// too short, stores all earlier results and then computes the batch in parts.
    private func compute(_ batch: Int, of work: AuthorWork) throws {
        try stop.check()
        let documents = work.batches[batch]
        let checks = checksTaps && work.sequences[documents].contains { !$0.tokens.isEmpty }
        var result: Deferred<BatchRecord>?
        try attempt(work) {
            result = try loadedComputer().start(documents, of: work, checksTaps: checks)
        }
        if checks { checksTaps = false }
        if let result {
            underWay.append(.batch(batch, of: work, checks: checks, result: result))
            return try takeIn(until: backend.batchesInFlight - 1)
        }
        try takeIn(until: 0)
        try attempt(work) {
            let record = try loadedComputer().computeInParts(
                documents, of: work, checksTaps: checks)
            try keep(record, batch, of: work)
        }
    }

    /// Carries out the steps of `underWay` in order, until at most `count` batches are under way.
    private func takeIn(until count: Int) throws {
        func batchesUnderWay() -> Int { underWay.count(where: \.isBatch) }
        while let step = underWay.first {
            switch step {
            case .end(let work):
                underWay.removeFirst()
                try end(work)
            case .batch(let batch, let work, let checks, let result):
                guard batchesUnderWay() > count else { return }
                underWay.removeFirst()
                try takeIn(result, batch, of: work, checks: checks)
            }
        }
    }

    private func takeIn(
        _ result: Deferred<BatchRecord>, _ batch: Int, of work: AuthorWork, checks: Bool
    ) throws {
        try attempt(work) {
            let record: BatchRecord
            do {
                record = try timing.measure(.model) { try result.value() }
            } catch is ResultOverflow {
                // The results did not fit into the memory reserved for them, so the batch is computed again. All
                // other batches are stored first, because they may hold memory that this batch needs.
                try takeInBatches()
                record = try loadedComputer().computeInParts(
                    work.batches[batch], of: work, checksTaps: checks)
            }
            try keep(record, batch, of: work)
        }
    }

    /// Stores the results of all batches that are under way. The `end` steps stay in the queue.
    private func takeInBatches() throws {
        while let index = underWay.firstIndex(where: \.isBatch),
            case .batch(let batch, let work, let checks, let result) = underWay.remove(at: index)
        {
            try takeIn(result, batch, of: work, checks: checks)
        }
    }

    /// Appends a batch to the journal, and reports the batch to the parent.
    private func keep(_ record: BatchRecord, _ batch: Int, of work: AuthorWork) throws {
        let sequences = work.sequences[work.batches[batch]]
        // The weights are read from memory-mapped files for hours. The check throws if such a file has changed. Then
        // the batch is not stored.
        try watch?.check()
        let journal = try self.journal ?? beginJournal()
        let places = try journal.append(
            author: work.number, batch: batch, documents: sequences.count,
            record.sections(values: plan.activationValues, on: threads))
        let tokens = sequences.reduce(0) { $0 + $1.tokens.count }
        try union.add(author: work.number, batch: batch, rows: tokens, places, of: journal)
        batchCount += 1
        send(
            .batch(
                author: work.number, batch: batch, documents: sequences.count, tokens: tokens,
                deviceMemory: backend.deviceMemory))
    }

    /// Creates the journal of this process. Throws `ConfigurationConflict` if a run of another configuration has
    /// begun in the same `save_dir`.
    private func beginJournal() throws -> JournalWriter {
        try task.state.checkClaim()
        let journal = try JournalWriter(
            directory: task.state.directory,
            header: JournalHeader(
                saes: task.state.settings.saes, items: plan.items, kernels: backend.kernels,
                host: ProcessInfo.processInfo.hostName, process: getpid()),
            isSynchronizedAside: writing != nil)
        do {
            // Checks the claim again, because another run may have begun since the first check.
            try task.state.checkClaim()
        } catch {
            try journal.place.remove()
            throw error
        }
        self.journal = journal
        return journal
    }

    /// Returns the object that computes batches. The first call loads the model and the SAEs.
    private func loadedComputer() throws -> BatchComputer<B> {
        if let computer { return computer }
        let watch = try FileWatch(task.inputs)
        let extractor = try timing.measure(.loading) {
            try Extractor(
                loading: plan, head: tokenizing!.head, on: backend, threads: threads,
                aside: { [threads, writing] body in
                    guard let writing else { return body(threads) }
                    try writing.begin { body($0) }
                }, log: log)
        }
        try watch.check()
        self.watch = watch
        log.info("\(MemoryUse().description) after loading")
        send(.loaded(kernels: backend.kernels, products: backend.products))
        let computer = BatchComputer(extractor, timing: timing, log: log)
        self.computer = computer
        return computer
    }

    // MARK: Writing

    /// Writes the missing files of an author, then the receipt. On a CUDA device, runs on threads of `writing`, so it
    /// uses only properties that do not change.
    private func write(_ work: AuthorWork, on threads: ThreadPool) throws {
        let (items, hooks, author, sequences) = (
            work.missing, work.hooks, work.author, work.sequences
        )
        let journal = try AuthorJournal(
            union, number: work.number, batches: work.batches.map { work.sequences[$0] })
        send(.writing(author: journal.number))
        // Throws if another process has meanwhile written results of another configuration.
        try task.state.check()
        let summary = try AuthorSummary(author, sequences, journal, hooks: hooks)
        let seals = try timing.measure(.writing) {
            try AuthorFileWriter(
                plan: plan, author: author, summary: summary, journal: journal,
                tokenizer: tokenizing!.tokenizer, widths: journal.limits.widths,
                state: task.state, stop: stop
            ).write(items, on: threads)
        }
        let names = Set(hooks.map(\.description))
        try task.state.add(
            AuthorReceipt(
                author: author.author, number: journal.number, lines: summary.lines,
                tokens: summary.tokens, truncatedRows: summary.truncatedRows,
                dividedBatches: summary.dividedBatches,
                crossEntropySum: summary.crossEntropySum, entropySum: summary.entropySum,
                firingCounts: Dictionary(
                    uniqueKeysWithValues: summary.firingCounts.map { ($0.description, $1) }),
                saes: task.state.settings.saes.filter { names.contains($0.key) },
                kernels: backend.kernels, files: seals))
        report(summary, hooks: hooks)
        send(.authorDone(author: journal.number, made: items.count))
    }

    private func report(_ summary: AuthorSummary, hooks: [HookPoint]) {
        let l0 = summary.meanL0(bySiteOf: hooks).map { "\($0.site.rawValue) \(decimals($0.l0, 2))" }
        let features =
            l0.isEmpty ? "" : ", features that fire per token: \(l0.joined(separator: ", "))"
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
