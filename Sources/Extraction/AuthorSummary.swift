// What is said of an author in the log and in `run.json`.

import Foundation
import Gemma2
import Tensors

/// An author's counts and means.
struct AuthorSummary {
    let author: String
    /// Source line of each document.
    let lines: [Int]
    /// Output tokens of each document.
    let tokens: [Int]
    /// Rows whose document was cut to `max_seq_len`.
    let truncatedRows: [Int]
    /// Features that fired, over all tokens.
    private(set) var firingCounts: [HookPoint: Int] = [:]
    private var crossEntropySum = 0.0
    private var entropySum = 0.0

    init(_ author: String, _ sequences: [TokenSequence], lines: [Int]) {
        self.author = author
        self.lines = lines
        tokens = sequences.map(\.tokens.count)
        truncatedRows = sequences.indices.filter { sequences[$0].isTruncated }
    }

    mutating func add(_ record: BatchRecord) {
        for (hook, features) in record.features {
            firingCounts[hook, default: 0] += features.columns.count
        }
        for document in record.documents {
            crossEntropySum += document.crossEntropy.reduce(0) { $0 + Double($1) }
            entropySum += document.entropy.reduce(0) { $0 + Double($1) }
        }
    }

    var tokenCount: Int { tokens.reduce(0, +) }

    /// Mean over output tokens, nats.
    var meanCrossEntropy: Double { crossEntropySum / Double(max(tokenCount, 1)) }
    /// Mean over output tokens, nats.
    var meanEntropy: Double { entropySum / Double(max(tokenCount, 1)) }
}

/// `value` with `places` digits after the point.
func decimals(_ value: Double, _ places: Int) -> String {
    String(format: "%.\(places)f", value)
}
