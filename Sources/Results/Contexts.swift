// Finds contexts of a feature: the passages of an author's documents in which the feature is strongest.

import FoundationEssentials

/// A passage of a document, as a context of one feature.
struct FeatureContext: Sendable {
    /// The index of the author in the run.
    var author: Int
    /// The index of the document among the author's documents.
    var document: Int
    /// The positions of the passage in the document.
    var positions: Range<Int>
    /// The tokens of the passage at which the feature fires: the offset from the passage's first token, and the
    /// activation.
    var fires: [(offset: Int, value: Float)]
    /// The strength of the passage. If the files hold activations, it is the largest activation in the document. If
    /// they hold ones, it is the largest number of tokens at which the feature fires in a window of `span` tokens.
    var score: Float
    /// The number of the author's passages that are stronger than this one.
    var rank = 0

    /// The maximum number of tokens of a passage.
    static let length = 26
    /// The maximum number of tokens of a passage before its strongest token.
    static let lead = 12
    /// The number of tokens of a window. If the files hold ones, the passage contains the window in which the feature
    /// fires most often.
    static let span = 12

    /// Returns the strongest passages of `author` for each of `features`, strongest first. A document has at most one
    /// passage, and a feature at most `limit`. `hasValues` tells whether the file holds activations or ones. Throws
    /// what `ActivationsFile.forEachEntry` throws, and `ResultsError` if the file seems to have changed since
    /// `FeatureCounts` read it.
    static func find(
        _ features: [Int], in file: ActivationsFile, author: Int, lengths: [Int], hasValues: Bool,
        limit: Int
    ) throws -> [[FeatureContext]] {
        var places = [Int32](repeating: -1, count: file.features)
        for (place, feature) in features.enumerated() { places[feature] = Int32(place) }
        var fires = [[(row: Int, value: Float)]](repeating: [], count: features.count)
        try file.forEachEntry { row, feature, value in
            let place = places[feature]
            if place >= 0 { fires[Int(place)].append((row, value)) }
        }
        return try fires.map { fires in
            var contexts: [FeatureContext] = []
            var rest = fires[...]
            while let first = rest.first {
                let document = first.row / file.positions
                // If a feature fires at padding, the file has changed, because `FeatureCounts` has checked this
                // before.
                guard document < lengths.count, first.row % file.positions < lengths[document]
                else {
                    throw ResultsError.badFile(
                        path: file.path, reason: "changed while it was read")
                }
                let end = (document + 1) * file.positions
                let own = rest.prefix { $0.row < end }
                rest = rest.dropFirst(own.count)
                contexts.append(
                    FeatureContext(
                        author: author, document: document,
                        fires: own.map { ($0.row - document * file.positions, $0.value) },
                        length: lengths[document], hasValues: hasValues))
            }
            // Sorting is stable: among equal scores, earlier documents come first.
            contexts.sort { $0.score > $1.score }
            contexts.removeLast(max(0, contexts.count - limit))
            for rank in contexts.indices { contexts[rank].rank = rank }
            return contexts
        }
    }

    /// Makes the strongest passage of a document. `fires` has all positions in the document at which the feature
    /// fires, with the activations.
    private init(
        author: Int, document: Int, fires: [(position: Int, value: Float)], length: Int,
        hasValues: Bool
    ) {
        var (best, score) = (0, Float(0))
        if hasValues {
            best = fires.indices.max { fires[$0].value < fires[$1].value }!
            score = fires[best].value
        } else {
            var end = 0
            for start in fires.indices {
                while end < fires.count,
                    fires[end].position - fires[start].position < FeatureContext.span
                {
                    end += 1
                }
                if Float(end - start) > score { (best, score) = (start, Float(end - start)) }
            }
        }
        let lower = max(
            0, min(fires[best].position - FeatureContext.lead, length - FeatureContext.length))
        let positions = lower..<min(length, lower + FeatureContext.length)
        (self.author, self.document, self.positions) = (author, document, positions)
        self.fires = fires.filter { positions.contains($0.position) }
            .map { ($0.position - lower, $0.value) }
        self.score = score
    }

    /// Returns the `limit` strongest of several authors' passages, strongest first. Among equal scores, takes the
    /// authors in turn.
    static func strongest(_ contexts: [FeatureContext], limit: Int) -> [FeatureContext] {
        Array(
            contexts.sorted {
                ($1.score, $0.rank, $0.author) < ($0.score, $1.rank, $1.author)
            }.prefix(limit))
    }
}
