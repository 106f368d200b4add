// The program on a page: a worker goes through its authors; what the journals do not have yet it computes, what is
// not in its place it writes. On a device of its own, one batch is computed while the results of the one before are taken
// in, and an author's files are written while the next author is computed.

import AuthorReceipts
import CUDA
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

/// Carries out one worker's task, on the device that its plan names; tells `send`, from any thread, what it does. What is
/// finished by then stays finished, whatever is thrown: `StopRequest`, the readers' errors, `FileError`,
/// `NonFiniteError`, `BackendError`, `CUDAError`.
public func carryOut(
    _ task: WorkerTask, stop: StopFlag, log: Logger, send: @escaping @Sendable (WorkerEvent) -> Void
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
    private let writing: BackgroundWork?
    private var tokenizing: Tokenizing?
    private var extractor: Extractor<B>?
    private var watch: FileWatch?
    private var journal: JournalWriter?
    private var checksTaps: Bool
    private var batchCount = 0
    /// What the device has been asked for, and what is to follow it, in order.
    private var underWay: [Step] = []
    /// In how many parts batches are computed: more than one once memory was short.
    private var parts = 1

    /// An author in this worker's hands.
    private final class Work {
        let assignment: WorkerTask.Assignment
        let missing: [OutputItem]
        /// Those of `missing`, in the plan's order.
        let hooks: [HookPoint]
        let sequences: [TokenSequence]
        let batches: [Range<Int>]
        /// Whether another process has made its files meanwhile.
        var isDoneElsewhere = false

        init(
            _ assignment: WorkerTask.Assignment, _ missing: [OutputItem], _ hooks: [HookPoint],
            _ sequences: [TokenSequence], _ batches: [Range<Int>]
        ) {
            (self.assignment, self.missing, self.hooks) = (assignment, missing, hooks)
            (self.sequences, self.batches) = (sequences, batches)
        }

        var author: AuthorDocuments { assignment.author }
        var number: Int { assignment.share.number }
    }

    private enum Step {
        /// A batch; whether its taps are being checked.
        case batch(Int, of: Work, checks: Bool, result: Deferred<BatchRecord>)
        case end(Work)

        var isBatch: Bool { if case .batch = self { true } else { false } }
    }

    init(
        _ task: WorkerTask, _ backend: B, _ threads: ThreadPool, stop: StopFlag, log: Logger,
        send: @escaping @Sendable (WorkerEvent) -> Void
    ) throws {
        (self.task, plan) = (task, task.plan)
        (self.stop, self.log, self.send) = (stop, log, send)
        (self.backend, self.threads) = (backend, threads)
        // On the processor, writing at the same time would only take cores from computing.
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
            var waiting: [WorkerTask.Assignment] = []
            for assignment in task.assignments {
                try stop.check()
                try begin(assignment, &waiting)
            }
            try takeIn(until: 0, &waiting)
            // Ranks that shared an author may have ended since; whoever looks last finds all of it.
            var stillWaiting: [WorkerTask.Assignment] = []
            for assignment in waiting { try begin(assignment, &stillWaiting) }
            try takeIn(until: 0, &stillWaiting)
            for assignment in stillWaiting {
                log.info(
                    "\(assignment.author.author): this rank's share is done; the files are made by the rank that ends last"
                )
                send(.shareDone(author: assignment.share.number))
            }
            try writing?.finish()
        } catch {
            // What has been asked for is finished and kept, as far as the device and the disk still do it.
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

    /// Asks for this rank's share of an author, as far as it is missing. Authors whose files cannot be made yet are added
    /// to `waiting`.
    private func begin(
        _ assignment: WorkerTask.Assignment, _ waiting: inout [WorkerTask.Assignment]
    ) throws {
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
        let work = Work(
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
            try compute(batch, of: work, &waiting)
        }
        underWay.append(.end(work))
        try takeIn(until: backend.batchesInFlight - 1, &waiting)
    }

    private func has(_ batch: Int, of work: Work) throws -> Bool {
        try union.has(
            author: work.number, batch: batch, work.sequences[work.batches[batch]],
            hooks: work.hooks)
    }

    /// Does `body` for an author. An error is none where another process has made the author's files meanwhile, and
    /// removed what this one was at work with.
    private func attempt(_ work: Work, _ body: () throws -> Void) throws {
        guard !work.isDoneElsewhere else { return }
        do {
            try body()
        } catch let error where !(error is StopRequest || error is ConfigurationConflict) {
            try passOver(error, work)
            journal = nil
            work.isDoneElsewhere = true
        }
    }

    /// Throws `error` again unless the author's files are all in their places.
    private func passOver(_ error: any Error, _ work: Work) throws {
        guard (try? missingItems(of: work.author))?.isEmpty == true else { throw error }
        send(.authorDone(author: work.number, made: 0))
    }

    /// An author's batches are done: makes the files, if all of it is there.
    private func end(_ work: Work, _ waiting: inout [WorkerTask.Assignment]) throws {
        var isComplete = true
        try attempt(work) {
            // First shown to all machines, then looked for from all: of ranks that share an author, the one that ends
            // last sees everything.
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
                    // As in `attempt`: another process may have made them, and removed what they were made of.
                    try passOver(error, work)
                }
            }
        }
        if !isComplete { waiting.append(work.assignment) }
    }

    /// The files that are not in their places, or not as they were made.
    private func missingItems(of author: AuthorDocuments) throws -> [OutputItem] {
        // What others have completed meanwhile is looked for only where something is there that this process did not make
        // or read of: with thousands of authors and processes, to look each time would take longer than the work.
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
                    log.warning("\(path) is not as it was written; it is made again")
                    // Another rank may look at its size only, and think all is done.
                    try GuardedPath(plan.saveDirectory, name).remove()
                    return true
                }
            }
        }
    }

    // MARK: Computing

    /// Asks the device for a batch, and takes in what has been asked for before, except the last.
    private func compute(
        _ batch: Int, of work: Work, _ waiting: inout [WorkerTask.Assignment]
    ) throws {
        try stop.check()
        let documents = work.batches[batch]
        let checks = checksTaps && work.sequences[documents].contains { !$0.tokens.isEmpty }
        var result: Deferred<BatchRecord>?
        try attempt(work) {
            _ = try self.extractor ?? load()
            guard parts == 1 else { return }
            do {
                result = try timing.measure(.model) { try ask(work, documents, checks: checks) }
            } catch let error as CUDAError where error.isOutOfMemory {}
        }
        if checks { checksTaps = false }
        if let result {
            underWay.append(.batch(batch, of: work, checks: checks, result: result))
            return try takeIn(until: backend.batchesInFlight - 1, &waiting)
        }
        try takeIn(until: 0, &waiting)
        try attempt(work) {
            try keep(try computeInParts(work, documents, checks: checks), batch, of: work)
        }
    }

    private func ask(
        _ work: Work, _ documents: Range<Int>, checks: Bool
    ) throws -> Deferred<BatchRecord> {
        try extractor!.extract(
            work.author, work.sequences[documents], hooks: work.hooks, checkingTaps: checks)
    }

    /// The same and waits for it.
    private func computeNow(
        _ work: Work, _ documents: Range<Int>, checks: Bool
    ) throws -> BatchRecord {
        while true {
            do {
                return try ask(work, documents, checks: checks).value()
            } catch is ResultOverflow {
                continue  // with more room
            }
        }
    }

    /// Computes a batch by itself; where memory is short in twice as many parts, and again. Later batches begin with as
    /// many.
    private func computeInParts(
        _ work: Work, _ documents: Range<Int>, checks: Bool
    ) throws -> BatchRecord {
        var checks = checks
        while true {
            let count = min(parts, max(documents.count, 1))
            do {
                return try timing.measure(.model) {
                    BatchRecord(
                        joining: try (0..<count).map { part in
                            let start = documents.lowerBound + part * documents.count / count
                            let end = documents.lowerBound + (part + 1) * documents.count / count
                            let record = try computeNow(work, start..<end, checks: checks)
                            // The taps of the first part that has tokens are judged.
                            if record.documents.contains(where: { !$0.tokens.isEmpty }) {
                                checks = false
                            }
                            return record
                        })
                }
            } catch let error as CUDAError where error.isOutOfMemory {
                guard count < documents.count else { throw error }
                parts *= 2
                log.warning(
                    "\(error); batches are computed in \(parts) parts from here on, so that this run cannot be repeated byte for byte"
                )
            }
        }
    }

    /// Carries out steps in order until `count` batches are under way.
    private func takeIn(until count: Int, _ waiting: inout [WorkerTask.Assignment]) throws {
        func batchesUnderWay() -> Int { underWay.count(where: \.isBatch) }
        while let step = underWay.first {
            switch step {
            case .end(let work):
                underWay.removeFirst()
                try end(work, &waiting)
            case .batch(let batch, let work, let checks, let result):
                guard batchesUnderWay() > count else { return }
                underWay.removeFirst()
                try takeIn(result, batch, of: work, checks: checks)
            }
        }
    }

    private func takeIn(
        _ result: Deferred<BatchRecord>, _ batch: Int, of work: Work, checks: Bool
    ) throws {
        try attempt(work) {
            let record: BatchRecord
            do {
                record = try timing.measure(.model) { try result.value() }
            } catch is ResultOverflow {
                // It is computed again by itself: what others hold of the device's memory may be needed.
                try takeInBatches()
                record = try computeInParts(work, work.batches[batch], checks: checks)
            }
            try keep(record, batch, of: work)
        }
    }

    /// Takes in all batches that are under way; the ends of authors stay.
    private func takeInBatches() throws {
        while let index = underWay.firstIndex(where: \.isBatch),
            case .batch(let batch, let work, let checks, let result) = underWay.remove(at: index)
        {
            try takeIn(result, batch, of: work, checks: checks)
        }
    }

    /// Puts a batch in the journal.
    private func keep(_ record: BatchRecord, _ batch: Int, of work: Work) throws {
        let sequences = work.sequences[work.batches[batch]]
        // Weights are used where they lie, for hours: what was computed with others is not kept.
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

    private func beginJournal() throws -> JournalWriter {
        try task.state.checkClaim()
        let journal = try JournalWriter(
            directory: task.state.directory,
            header: JournalHeader(
                saes: task.state.settings.saes, items: plan.items, kernels: backend.kernels,
                host: ProcessInfo.processInfo.hostName, process: getpid()),
            isSynchronizedAside: writing != nil)
        do {
            // Once more: another run may have begun before this one showed that it has.
            try task.state.checkClaim()
        } catch {
            try journal.place.remove()
            throw error
        }
        self.journal = journal
        return journal
    }

    private func load() throws -> Extractor<B> {
        let watch = try FileWatch(task.inputs)
        let extractor = try timing.measure(.loading) {
            let head = tokenizing!.head
            let config = try Gemma2Config(path: plan.locations.model.config + "/config.json")
            let longest = plan.columns + head.tokens.count
            let model = try Gemma2Model(
                try CheckpointFiles(directory: plan.locations.model.weights), config: config,
                maximumLength: longest, on: backend)
            var parameters = [SAEParameters?](repeating: nil, count: plan.saes.count)
            try parameters.withUnsafeMutableBufferPointer { parameters in
                nonisolated(unsafe) let parameters = parameters
                try threads.tryForEach(plan.saes.count) { item, _ in
                    let sae = plan.saes[item]
                    parameters[item] = try SAEParameters(
                        directory: sae.directory, dIn: config.width(of: sae.hook.site),
                        hookName: sae.hook.description)
                }
            }
            let saes = try zip(plan.saes, parameters).map {
                ($0.hook, try JumpReLUSAE($1!, on: backend))
            }
            // The smallest batch is one document; if more do not fit, they go in parts.
            try backend.load(
                rows: longest, bytesPerRow: model.bytesPerToken, encoders: saes.count)
            log.info(
                "\(plan.label): \(config.nLayers) layers, \(plan.saes.count) SAEs; \(backend.kernels), \(backend.products), \(plan.threadsDescription())"
            )
            return Extractor(
                plan: plan, head: head, model: model, saes: Dictionary(uniqueKeysWithValues: saes),
                backend: backend, threads: threads,
                aside: { [threads, writing] body in
                    guard let writing else { return body(threads) }
                    try writing.begin { body($0) }
                }, log: log)
        }
        try watch.check()
        self.watch = watch
        log.info("\(MemoryUse().description) after loading")
        send(.loaded(kernels: backend.kernels, products: backend.products))
        self.extractor = extractor
        return extractor
    }

    // MARK: Writing

    /// Writes what is missing of an author. Runs beside the rest where there is a device: touches nothing that changes.
    private func write(_ work: Work, on threads: ThreadPool) throws {
        let (items, hooks, author, sequences) = (
            work.missing, work.hooks, work.author, work.sequences
        )
        let journal = try AuthorJournal(
            union, number: work.number, batches: work.batches.map { work.sequences[$0] })
        send(.writing(author: journal.number))
        // Results of another configuration that have come meanwhile are not to be mixed with.
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
