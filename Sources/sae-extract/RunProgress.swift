// How far a run is: what workers tell, summed up.

import Extraction
import FoundationEssentials

/// How progress is shown.
enum ProgressStyle: String, CaseIterable {
    /// A live display where standard error is a terminal, else lines.
    case auto
    /// A live line for each worker and one for all.
    case bar
    /// A line every half minute.
    case plain
    /// A JSON object a line, on standard output, each second in which something happens.
    case json
    /// Nothing.
    case none
}

/// What is known of all workers. Times are seconds since the run began.
struct RunProgress: Sendable {
    /// What a worker is at.
    enum Phase: String, Sendable {
        case starting
        case computing
        case writing
        case done
        case stopped
        case failed
    }

    /// A worker's share of an author, in documents.
    private struct Share: Sendable {
        var total: Int
        var done = 0
    }

    /// One worker.
    struct Worker: Sendable {
        let rank: Int
        fileprivate(set) var phase = Phase.starting
        fileprivate(set) var process: Int32?
        fileprivate(set) var author: String?
        /// Tokens computed by this run, and those that were there before it.
        fileprivate(set) var tokens = 0
        fileprivate(set) var documents = 0
        fileprivate(set) var deviceMemory: Int?
        /// Bytes of its own, looked up by whoever shows it.
        var memory: Int?
        private var shares: [Int: Share] = [:]
        /// When how many tokens and documents had been computed, over the last while.
        private var marks: [(time: Double, tokens: Int, documents: Int)] = []

        /// Over how many seconds speed is measured.
        private static let window = 30.0

        fileprivate init(rank: Int, _ documents: [(author: Int, documents: Int)]) {
            self.rank = rank
            for (author, count) in documents { shares[author] = Share(total: count) }
        }

        var documentsDone: Int { shares.values.reduce(0) { $0 + $1.done } }
        var documentsTotal: Int { shares.values.reduce(0) { $0 + $1.total } }

        mutating func add(_ event: WorkerEvent, at time: Double) {
            switch event {
            case .started(let process): self.process = process
            case .loaded:
                phase = .computing
                marks = [(time, tokens, documents)]
            case .author(let name): author = name
            case .share(let author, let total, let done):
                shares[author] = Share(total: total, done: done)
            case .batch(let author, _, let documents, let tokens, let deviceMemory):
                phase = .computing
                shares[author]?.done += documents
                self.tokens += tokens
                self.documents += documents
                self.deviceMemory = deviceMemory ?? self.deviceMemory
                marks.append((time, self.tokens, self.documents))
                // One that is older stays, so that there is always a span to measure over.
                while marks.count > 2, marks[1].time < time - Worker.window { marks.removeFirst() }
            case .writing: phase = .writing
            case .authorDone(let author, _), .shareDone(let author):
                if let total = shares[author]?.total { shares[author]?.done = total }
            case .failed: phase = .failed
            case .stopped: phase = .stopped
            case .finished: phase = .done
            }
        }

        /// It ended, however.
        mutating func end(_ phase: Phase) { self.phase = phase }

        var isRunning: Bool { [.starting, .computing, .writing].contains(phase) }

        /// Tokens a second over the last while; nil before there are any, and of a worker that has ended.
        func rate(at time: Double) -> Double? {
            guard isRunning, let first = marks.first, let last = marks.last,
                last.tokens > first.tokens
            else { return nil }
            // A batch that takes longer than those before slows the display down as it should.
            let expected = (last.time - first.time) / Double(max(marks.count - 1, 1))
            let end = max(last.time, time - expected)
            return Double(last.tokens - first.tokens) / max(end - first.time, 1e-3)
        }

        /// Seconds until its share is computed, at that speed.
        func secondsLeft(at time: Double) -> Double? {
            guard let rate = rate(at: time), documents > 0 else { return nil }
            let tokensLeft =
                Double(documentsTotal - documentsDone) * Double(tokens) / Double(documents)
            return tokensLeft / rate
        }
    }

    private(set) var workers: [Worker]
    private(set) var batches = 0
    private(set) var authors: Set<Int> = []
    /// The longest that a worker spent computing.
    private(set) var modelSeconds = 0.0

    /// Before anything is done: ranks, with how many documents of which authors are theirs.
    init(ranks: [(rank: Int, documents: [(author: Int, documents: Int)])]) {
        workers = ranks.map { Worker(rank: $0.rank, $0.documents) }
    }

    /// A worker said `event`.
    mutating func add(_ event: WorkerEvent, rank: Int, at time: Double) {
        guard let index = workers.firstIndex(where: { $0.rank == rank }) else { return }
        workers[index].add(event, at: time)
        switch event {
        case .batch: batches += 1
        case .authorDone(let author, _): authors.insert(author)
        case .finished(let seconds): modelSeconds = max(modelSeconds, seconds["model"] ?? 0)
        default: break
        }
    }

    /// The worker at `index` ended.
    mutating func end(_ index: Int, _ end: WorkerEnd) {
        switch end {
        case .done: workers[index].end(.done)
        case .stopped: workers[index].end(.stopped)
        case .failed: workers[index].end(.failed)
        }
    }

    /// Looks up what the workers hold in memory.
    mutating func lookUpMemory() {
        for index in workers.indices {
            workers[index].memory =
                workers[index].isRunning
                ? workers[index].process.map { MemoryUse(process: $0).own } : nil
        }
    }

    var tokens: Int { workers.reduce(0) { $0 + $1.tokens } }
    var documentsDone: Int { workers.reduce(0) { $0 + $1.documentsDone } }
    var documentsTotal: Int { workers.reduce(0) { $0 + $1.documentsTotal } }

    /// Of all workers together; nil while none has computed anything.
    func rate(at time: Double) -> Double? {
        let rates = workers.compactMap { $0.rate(at: time) }
        return rates.isEmpty ? nil : rates.reduce(0, +)
    }

    /// Seconds until the last worker has computed its share.
    func secondsLeft(at time: Double) -> Double? {
        workers.compactMap { $0.secondsLeft(at: time) }.max()
    }
}
