// How well a feature tells authors apart.

import Glibc

/// A feature's firing at some authors' tokens, each against all others.
struct FeatureContrast {
    /// Log odds ratio of firing at a token, by author: of that author against all others.
    let logOdds: [Double]
    /// The same over its standard error. Tokens of a document depend on each other, so it is larger than it should be.
    let z: [Double]

    /// `counts[a]` of author a's `tokens[a]` tokens fire. Half a token is added to each cell (Haldane 1955,
    /// Anscombe 1956), so that nothing is infinite.
    init(counts: [Int], tokens: [Int]) {
        let (allCounts, allTokens) = (counts.reduce(0, +), tokens.reduce(0, +))
        var (logOdds, z) = ([Double](), [Double]())
        for (count, total) in zip(counts, tokens) {
            // Without tokens, or without others, there is nothing to compare.
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

    /// The largest |z|.
    var strength: Double { z.reduce(0) { max($0, abs($1)) } }

    /// The `limit` features that tell authors apart best, strongest first: the best of each author in turn, so that
    /// an author with few tokens is seen too. Of one author alone, those that fire most often. `contrasts` are of
    /// features that fire at all.
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
