// Counts how often features fire in one author's activations at one hook.

import FoundationEssentials

/// Counts of an activations file. They include all tokens, but no padding.
struct FeatureCounts: Sendable {
    /// For each feature: the number of tokens at which it fires.
    private(set) var tokens: [Int32]
    /// For each feature: the number of documents in which it fires.
    private(set) var documents: [Int32]
    /// Element i is the number of tokens at which exactly i features fire.
    private(set) var tokensByL0: [Int] = []
    /// The number of nonzero entries.
    private(set) var entries = 0
    /// The least and the largest finite value; (∞, -∞) if no value is finite.
    private(set) var range = (least: Float.infinity, largest: -Float.infinity)
    /// The number of entries that are NaN or infinite.
    private(set) var notFinite = 0

    /// Counts the entries of `file`. Document d has `lengths[d]` tokens, and its other positions are padding. Throws
    /// the errors of `ActivationsFile.forEachEntry`, and `ResultsError` if a feature fires at padding.
    init(_ file: ActivationsFile, lengths: [Int]) throws {
        var tokens = [Int32](repeating: 0, count: file.features)
        var documents = tokens
        var lastDocument = [Int32](repeating: -1, count: file.features)
        let positions = file.positions
        var entries = 0
        // `l0` is the number of features that fire in the current row, `l0Row`. `rowsThatFire` is the number of
        // earlier rows in which a feature fires.
        var (l0Row, l0, rowsThatFire) = (-1, 0, 0)
        var tokensByL0 = [0]
        func endRow() {
            guard l0 > 0 else { return }
            while tokensByL0.count <= l0 { tokensByL0.append(0) }
            tokensByL0[l0] += 1
            rowsThatFire += 1
        }
        var (least, largest) = range
        var notFinite = 0
        var (document, documentRow) = (-1, 0)
        try file.forEachEntry { row, feature, value in
            if document < 0 || row - documentRow >= positions {
                document = row / positions
                documentRow = document * positions
            }
            let position = row - documentRow
            guard document < lengths.count, position < lengths[document] else {
                throw ResultsError.badFile(
                    path: file.path,
                    reason:
                        "feature \(feature) fires at document \(document), position \(position), which is padding"
                )
            }
            tokens[feature] += 1
            if lastDocument[feature] != Int32(document) {
                lastDocument[feature] = Int32(document)
                documents[feature] += 1
            }
            if row != l0Row {
                endRow()
                (l0Row, l0) = (row, 0)
            }
            l0 += 1
            entries += 1
            if value.isFinite {
                (least, largest) = (min(least, value), max(largest, value))
            } else {
                notFinite += 1
            }
        }
        endRow()
        tokensByL0[0] = lengths.reduce(0, +) - rowsThatFire
        self.tokensByL0 = tokensByL0
        (self.tokens, self.documents, self.entries) = (tokens, documents, entries)
        (range, self.notFinite) = ((least, largest), notFinite)
    }

    /// The number of features that fire at least once.
    var alive: Int { tokens.count { $0 > 0 } }
}

/// Returns the element-wise sum of `first` and `second`. The shorter array is extended with zeros.
func sum(_ first: [Int], _ second: [Int]) -> [Int] {
    (0..<max(first.count, second.count)).map {
        ($0 < first.count ? first[$0] : 0) + ($0 < second.count ? second[$0] : 0)
    }
}
