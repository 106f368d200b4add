// Where a feature fires: the passages of an author in which it is strongest.

import FoundationEssentials

/// A passage of a document.
struct FeatureContext: Sendable {
    /// The author's place, the document's row, the passage's positions.
    var author: Int
    var document: Int
    var positions: Range<Int>
    /// Positions within the passage, and activations.
    var fires: [(offset: Int, value: Float)]
    /// The largest activation where there are activations, else how often it fires within `span` tokens.
    var score: Float
    /// How many of the same author's are stronger.
    var rank = 0

    /// Tokens of a passage.
    static let length = 26
    /// Tokens before those that fire.
    static let lead = 12
    /// Where there are only ones, the strongest place is where most lie within so many tokens.
    static let span = 12

    /// The strongest passages of `author` for each of `features`, at most `limit` each, one a document.
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
                // It was not so when features were counted.
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
            // Sorting is stable: of equals, the first documents.
            contexts.sort { $0.score > $1.score }
            contexts.removeLast(max(0, contexts.count - limit))
            for rank in contexts.indices { contexts[rank].rank = rank }
            return contexts
        }
    }

    /// The best passage of a document in which `fires` (position, value) are all.
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

    /// The strongest of several authors', each author's in turn among equals.
    static func strongest(_ contexts: [FeatureContext], limit: Int) -> [FeatureContext] {
        Array(
            contexts.sorted {
                ($1.score, $0.rank, $0.author) < ($0.score, $1.rank, $1.author)
            }.prefix(limit))
    }
}
