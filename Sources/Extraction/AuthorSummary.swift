// What is said of an author in the log and in `run.json`.

import Corpus
import FoundationEssentials
import Hooks
import RunState
import Tokenization

/// An author's counts and means.
struct AuthorSummary {
    let author: String
    /// Source line of each document.
    let lines: [Int]
    /// Output tokens of each document.
    let tokens: [Int]
    /// Rows whose document was cut to `max_seq_len`.
    let truncatedRows: [Int]
    /// Batches that were computed in parts for want of memory.
    let dividedBatches: [Int]
    /// Features that fired, over all tokens.
    private(set) var firingCounts: [HookPoint: Int] = [:]
    private(set) var crossEntropySum = 0.0
    private(set) var entropySum = 0.0

    /// Counts what `journal` has of `sequences`, with the features of `hooks`. Throws `FileError` and
    /// `JournalChangedError`.
    init(
        _ author: AuthorDocuments, _ sequences: [TokenSequence], _ journal: AuthorJournal,
        hooks: [HookPoint]
    ) throws {
        self.author = author.author
        lines = author.documents.map(\.line)
        tokens = sequences.map(\.tokens.count)
        truncatedRows = sequences.indices.filter { sequences[$0].isTruncated }
        dividedBatches = journal.batches.indices.filter(journal.isDivided)
        for batch in journal.batches.indices {
            for document in try journal.documents(of: batch) {
                crossEntropySum += document.crossEntropy.reduce(0) { $0 + Double($1) }
                entropySum += document.entropy.reduce(0) { $0 + Double($1) }
            }
            for hook in hooks {
                firingCounts[hook, default: 0] += try journal.firingCount(hook, of: batch)
            }
        }
    }

    var tokenCount: Int { tokens.reduce(0, +) }

    /// Mean over output tokens, nats.
    var meanCrossEntropy: Double { crossEntropySum / Double(max(tokenCount, 1)) }
    /// Mean over output tokens, nats.
    var meanEntropy: Double { entropySum / Double(max(tokenCount, 1)) }
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
