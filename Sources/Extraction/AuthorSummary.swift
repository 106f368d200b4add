// An author's counts and means, for the log and for `run.json`.

import Corpus
import FoundationEssentials
import Hooks
import RunState
import Tokenization

/// Counts and means over the documents of one author.
struct AuthorSummary {
    let author: String
    /// The line of the corpus on which each document begins.
    let lines: [Int]
    /// The number of tokens of each document in the output.
    let tokens: [Int]
    /// The indices of documents that were cut to `--max_seq_len`.
    let truncatedRows: [Int]
    /// The indices of the batches that were computed in parts because memory was short.
    let dividedBatches: [Int]
    /// For each hook, the number of times that a feature fires, over all features and tokens.
    private(set) var firingCounts: [HookPoint: Int] = [:]
    /// The sum of the cross-entropy over all tokens, in nats.
    private(set) var crossEntropySum = 0.0
    /// The sum of the entropy over all tokens, in nats.
    private(set) var entropySum = 0.0

    /// Adds up the metrics of the batches in `journal`, and counts the features that fire at each hook of `hooks`.
    /// Throws `FileError` and `JournalChangedError`.
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

    /// The mean cross-entropy per token, in nats.
    var meanCrossEntropy: Double { crossEntropySum / Double(max(tokenCount, 1)) }
    /// The mean entropy per token, in nats.
    var meanEntropy: Double { entropySum / Double(max(tokenCount, 1)) }
}

extension AuthorSummary {
    /// Returns the L0 of `hook`: the mean number of features that fire at a token.
    func meanL0(_ hook: HookPoint) -> Double {
        Double(firingCounts[hook] ?? 0) / Double(max(tokenCount, 1))
    }

    /// Returns the L0 of each site in `hooks`, averaged over its layers.
    func meanL0(bySiteOf hooks: [HookPoint]) -> [(site: Site, l0: Double)] {
        Site.allCases.compactMap { site in
            let hooks = hooks.filter { $0.site == site }
            guard !hooks.isEmpty else { return nil }
            return (site, hooks.reduce(0) { $0 + meanL0($1) } / Double(hooks.count))
        }
    }
}
