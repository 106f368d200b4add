// How long each part of a worker's run takes.

import Synchronization

/// Seconds spent on each part of a worker's run.
final class Timing: Sendable {
    enum Part: String, CaseIterable {
        /// Model, SAEs, tokenizer.
        case loading
        /// Checking files that are there.
        case verifying
        /// The forward pass, metrics and SAEs.
        case model
        case writing
    }

    private let start = ContinuousClock.now
    private let parts = Mutex<[Part: Duration]>([:])

    func measure<R>(_ part: Part, _ body: () throws -> R) rethrows -> R {
        let begin = ContinuousClock.now
        defer { parts.withLock { $0[part, default: .zero] += ContinuousClock.now - begin } }
        return try body()
    }

    func seconds(_ part: Part) -> Double {
        (parts.withLock { $0[part] } ?? .zero) / .seconds(1)
    }

    /// All parts, and the total since the beginning, by name.
    var seconds: [String: Double] {
        var all = ["total": (ContinuousClock.now - start) / .seconds(1)]
        for part in Part.allCases { all[part.rawValue] = seconds(part) }
        return all
    }
}
