// The progress of a run: adds up the workers' events.

import Extraction
import FoundationEssentials

/// The progress of all workers. Times are seconds since the start of the workers.
struct RunProgress: Sendable {
    private(set) var workers: [WorkerProgress]
    private(set) var batches = 0
    private(set) var authors: Set<Int> = []
    /// The longest time that a worker spent in the model and SAEs, in seconds.
    private(set) var modelSeconds = 0.0

    /// Makes the initial progress. `ranks` has each rank with the number of its documents for each author.
    init(ranks: [(rank: Int, documents: [(author: Int, documents: Int)])]) {
        workers = ranks.map { WorkerProgress(rank: $0.rank, $0.documents) }
    }

    /// Adds an event of the worker `rank`.
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

    /// Records that the worker of task `index` has ended.
    mutating func end(_ index: Int, _ end: WorkerEnd) {
        switch end {
        case .done: workers[index].end(.done)
        case .stopped: workers[index].end(.stopped)
        case .failed: workers[index].end(.failed)
        }
    }

    /// Reads the current memory use of every running worker.
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

    /// Tokens per second of all workers together. Nil if no worker has computed anything yet.
    func rate(at time: Double) -> Double? {
        let rates = workers.compactMap { $0.rate(at: time) }
        return rates.isEmpty ? nil : rates.reduce(0, +)
    }

    /// Seconds until the last worker has computed its share. Nil if this is unknown.
    func secondsLeft(at time: Double) -> Double? {
        workers.compactMap { $0.secondsLeft(at: time) }.max()
    }
}
