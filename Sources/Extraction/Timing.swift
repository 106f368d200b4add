// Measures how long each part of a worker's run takes.

import Synchronization

/// Seconds spent on each part of a worker's run.
final class Timing: Sendable {
    enum Part: String, CaseIterable {
        /// Reading the model, the SAEs and the tokenizer.
        case loading
        /// Comparing existing files with their receipts.
        case verifying
        /// The forward pass, the metrics and the SAEs.
        case model
        /// Writing authors' files.
        case writing
    }

    private let start = ContinuousClock.now
    private let parts = Mutex<[Part: Duration]>([:])

    /// Runs `body` and adds its duration to `part`. Several threads may call this method at the same time.
    func measure<R>(_ part: Part, _ body: () throws -> R) rethrows -> R {
        let begin = ContinuousClock.now
        defer { parts.withLock { $0[part, default: .zero] += ContinuousClock.now - begin } }
        return try body()
    }

    /// The seconds spent on `part` so far.
    func seconds(_ part: Part) -> Double {
        (parts.withLock { $0[part] } ?? .zero) / .seconds(1)
    }

    /// The seconds of each part by name, and as `total` the seconds since the worker started to measure.
    var seconds: [String: Double] {
        var all = ["total": (ContinuousClock.now - start) / .seconds(1)]
        for part in Part.allCases { all[part.rawValue] = seconds(part) }
        return all
    }
}
