// Measures how well a feature distinguishes authors.

import Glibc

/// Compares how often a feature fires at each author's tokens with how often it fires at all other authors' tokens.
struct FeatureContrast {
    /// For each author: the natural logarithm of the odds ratio. It compares the odds that the feature fires at a
    /// token of this author with the odds at a token of all others. 0 if this author or all others have no tokens.
    let logOdds: [Double]
    /// For each author: `logOdds` divided by its standard error. The standard error assumes independent tokens. The
    /// tokens of a document are not independent, so |z| is too large.
    let z: [Double]

    /// Compares the authors. The feature fires at `counts[a]` of the `tokens[a]` tokens of author a. 0.5 is added to
    /// each of the four counts of a comparison (Haldane 1955, Anscombe 1956), so that no result is infinite.
    init(counts: [Int], tokens: [Int]) {
        let (allCounts, allTokens) = (counts.reduce(0, +), tokens.reduce(0, +))
        var (logOdds, z) = ([Double](), [Double]())
        for (count, total) in zip(counts, tokens) {
            // If this author or all others have no tokens, no comparison is possible.
            guard total > 0, allTokens > total else {
                logOdds.append(0)
                z.append(0)
                continue
            }
            let cells = [
                count, total - count, allCounts - count, allTokens - total - (allCounts - count),
            ].map { Double($0) + 0.5 }
            let ratio = log(cells[0] / cells[1]) - log(cells[2] / cells[3])
            logOdds.append(ratio)
            z.append(ratio / cells.reduce(0) { $0 + 1 / $1 }.squareRoot())
        }
        (self.logOdds, self.z) = (logOdds, z)
    }

    /// The largest |z| of all authors.
    var strength: Double { z.reduce(0) { max($0, abs($1)) } }

    /// Returns at most `limit` features, in descending order of `strength`. Takes the feature with the highest z of
    /// each author in turn, so that authors with few tokens also get features. If only one author has tokens, returns
    /// the features that fire most often. `contrasts` has only features that fire at least once.
    static func choose(
        _ contrasts: [(feature: Int, contrast: FeatureContrast, count: Int)], limit: Int
    ) -> [Int] {
        let authors = contrasts.first?.contrast.z.count ?? 0
        guard contrasts.contains(where: { $0.contrast.strength > 0 }) else {
            return contrasts.sorted { ($1.count, $0.feature) < ($0.count, $1.feature) }
                .prefix(limit).map(\.feature)
        }
        let rankings = (0..<authors).map { author in
            contrasts.indices.filter { contrasts[$0].contrast.z[author] > 0 }
                .sorted {
                    (contrasts[$1].contrast.z[author], contrasts[$0].feature)
                        < (contrasts[$0].contrast.z[author], contrasts[$1].feature)
                }
                .prefix(limit)
        }
        var chosen: Set<Int> = []
        for place in 0..<limit {
            for ranking in rankings where place < ranking.count && chosen.count < limit {
                chosen.insert(ranking[place])
            }
        }
        return chosen.sorted {
            (contrasts[$1].contrast.strength, contrasts[$0].feature)
                < (contrasts[$0].contrast.strength, contrasts[$1].feature)
        }.map { contrasts[$0].feature }
    }
}
