// The progress of one worker.

import Extraction

/// The progress of one worker, from its events.
struct WorkerProgress: Sendable {
    /// The states of a worker.
    enum Phase: String, Sendable {
        case starting
        case computing
        case writing
        case done
        case stopped
        case failed
    }

    /// The documents of one author that this worker computes.
    private struct Share: Sendable {
        var total: Int
        var done = 0
    }

    let rank: Int
    private(set) var phase = Phase.starting
    private(set) var process: Int32?
    private(set) var author: String?
    /// The number of tokens and documents that the worker has computed in this invocation.
    private(set) var tokens = 0
    private(set) var documents = 0
    private(set) var deviceMemory: Int?
    /// The worker's memory use in bytes. Nil if it is unknown.
    var memory: Int?
    private var shares: [Int: Share] = [:]
    /// For each recent batch: its time in seconds, and the tokens and documents computed until then.
    private var marks: [(time: Double, tokens: Int, documents: Int)] = []

    /// The length of the window, in seconds, over which speed is measured.
    private static let window = 30.0

    init(rank: Int, _ documents: [(author: Int, documents: Int)]) {
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
            // One mark before the window stays, so that the speed can be measured over the whole window.
            while marks.count > 2, marks[1].time < time - WorkerProgress.window {
                marks.removeFirst()
            }
        case .writing: phase = .writing
        case .authorDone(let author, _), .shareDone(let author):
            if let total = shares[author]?.total { shares[author]?.done = total }
        case .failed: phase = .failed
        case .stopped: phase = .stopped
        case .finished: phase = .done
        }
    }

    /// Records that the worker has ended, with `phase` as its final state.
    mutating func end(_ phase: Phase) { self.phase = phase }

    var isRunning: Bool { [.starting, .computing, .writing].contains(phase) }

    /// Tokens per second over the last `window` seconds. Nil before the first batch and after the worker's end.
    func rate(at time: Double) -> Double? {
        guard isRunning, let first = marks.first, let last = marks.last,
            last.tokens > first.tokens
        else { return nil }
        // If the current batch takes longer than an average batch, the shown speed falls.
        let expected = (last.time - first.time) / Double(max(marks.count - 1, 1))
        let end = max(last.time, time - expected)
        return Double(last.tokens - first.tokens) / max(end - first.time, 1e-3)
    }

    /// Seconds until the worker has computed its share at the current speed. Nil if this is unknown.
    func secondsLeft(at time: Double) -> Double? {
        guard let rate = rate(at: time), documents > 0 else { return nil }
        let tokensLeft =
            Double(documentsTotal - documentsDone) * Double(tokens) / Double(documents)
        return tokensLeft / rate
    }
}
