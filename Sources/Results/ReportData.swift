// Collects the data of the report's page from a run's files. The page's script (Sources/C/CReport/page.js) reads this
// JSON object, so a new key must be added in both files.

import ByteJSON
import Files
import FoundationEssentials
import Glibc
import Hooks
import RunFiles
import Synchronization
import Threading

/// Options that select the features of a report and their contexts.
package struct ReportOptions: Sendable {
    /// The maximum number of features of each SAE that are chosen by their contrast between authors.
    package var featureCount = 100
    /// The maximum number of contexts of each feature.
    package var contextCount = 6
    /// Features to show besides the chosen ones, by hook.
    package var extraFeatures: [HookPoint: [Int]] = [:]

    /// Makes the default options.
    package init() {}
}

/// Collects the data of a report.
package struct ReportData {
    private let run: FinishedRun
    private let options: ReportOptions
    private let pages: NeuronpediaPages

    /// The number of bins of each histogram.
    private static let bins = 60
    /// The upper ends of the histograms, in nats. Few cross-entropies are above 20. No entropy is above ln 256,000 =
    /// 12.45, because the vocabulary has 256,000 tokens.
    private static let ends = (crossEntropy: 20.0, entropy: 12.5)

    /// Makes a collector for a report on `run`.
    package init(_ run: FinishedRun, _ options: ReportOptions) {
        (self.run, self.options) = (run, options)
        pages = NeuronpediaPages()
    }

    /// Reads all files of the run and returns the report's data. Calls `progress` before each SAE. Throws the errors
    /// of the files' readers. Throws `ResultsError.absent` if an extra feature or its hook does not exist.
    package func json(_ progress: (FinishedRun.TappedSAE) -> Void) throws -> JSONObject {
        for (hook, features) in options.extraFeatures {
            guard let sae = run.saes.first(where: { $0.hook == hook }) else {
                throw ResultsError.absent(
                    what: "\(hook)", present: run.saes.map { "\($0.hook.site):\($0.hook.layer)" },
                    flag: "--feature SITE:LAYER:NUMBER with")
            }
            if let feature = features.first(where: { $0 >= sae.width }) {
                throw ResultsError.absent(
                    what: "feature \(feature) of \(hook)", present: ["0 to \(sae.width - 1)"],
                    flag: "--feature \(hook.site):\(hook.layer):NUMBER with")
            }
        }
        let tokens = try forEachAuthor { _, author in
            let tokens = try AuthorFiles.tokens(run.path(.tokens, of: author))
            guard tokens.count == author.tokensPerRow.count,
                tokens.allSatisfy({ $0.count == run.columns })
            else {
                throw ResultsError.badFile(
                    path: run.path(.tokens, of: author),
                    reason:
                        "does not have \(author.tokensPerRow.count) documents of \(run.columns) pieces"
                )
            }
            return tokens
        }
        var saes: [JSONValue] = []
        for sae in run.saes {
            progress(sae)
            saes.append(.object(try describe(sae, tokens)))
        }
        let authors = try forEachAuthor { _, author in try describe(author) }
        func text(_ key: String) -> JSONValue { run.entry[key] ?? .null }
        func bins(_ end: Double) -> JSONValue {
            .object(["from": 0, "to": .rounded(end, 2), "count": .integer(ReportData.bins)])
        }
        return [
            "format": "sae-extract report", "format_version": 1,
            "tool": text("sae_extract"),
            "model": .string(run.label),
            "save_dir": .string(run.directory),
            "started": text("started"), "finished": text("finished"),
            "device": text("device"),
            "devices": .array(
                (run.entry["devices"]?.array ?? []).compactMap { $0.object?["name"] }),
            "kernels": text("kernels"), "dtype": text("dtype"),
            "reproducible": text("reproducible"),
            "threshold": .rounded(run.threshold, 6),
            "values": run.setting(.activationValues) ?? .null,
            "max_seq_len": run.setting(.maxSeqLen) ?? .null,
            "prefix": run.setting(.prefix) ?? .null,
            "command": text("command"),
            "notes": .array(run.notes.map(JSONValue.string)),
            "bins": .object([
                "cross_entropy": bins(ReportData.ends.crossEntropy),
                "entropy": bins(ReportData.ends.entropy),
            ]),
            "authors": .array(authors.map(JSONValue.object)),
            "saes": .array(saes),
        ]
    }

    /// Calls `body` for each author, in parallel. Returns the results in the authors' order. If calls of `body`
    /// throw, throws the error of the first of these authors.
    private func forEachAuthor<Result: Sendable>(
        _ body: (Int, FinishedRun.Author) throws -> Result
    ) throws -> [Result] {
        let results = Mutex(
            [Swift.Result<Result, any Error>?](repeating: nil, count: run.authors.count))
        let authors = run.authors
        withoutActuallyEscaping(body) { body in
            nonisolated(unsafe) let body = body
            ThreadPool.ofAvailableCores().forEach(authors.count) { number, _ in
                let result = Swift.Result {
                    do {
                        return try body(number, authors[number])
                    } catch let error as FileError where error.code == ENOENT {
                        throw ResultsError.missingFile(path: error.path)
                    }
                }
                results.withLock { $0[number] = result }
            }
        }
        return try results.withLock { $0 }.map { try $0!.get() }
    }

    // MARK: Authors

    private func describe(_ author: FinishedRun.Author) throws -> JSONObject {
        func distribution(_ kind: OutputNaming.Kind, end: Double) throws -> JSONValue {
            let path = run.path(kind, of: author)
            let padded = try AuthorFiles.metric(path, rows: run.rows, columns: run.columns)
            let values = author.tokensPerRow.enumerated().flatMap { document, length in
                padded[document * run.columns..<document * run.columns + length]
            }
            guard values.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
                throw ResultsError.badFile(
                    path: path, reason: "has values that are negative or not finite")
            }
            var histogram = Histogram(end: end, bins: ReportData.bins)
            histogram.add(values)
            var object = Distribution(values).json(places: 4)
            object["histogram"] = .array(histogram.counts.map(JSONValue.integer))
            return .object(object)
        }
        return [
            "name": .string(author.name),
            "documents": .integer(author.tokensPerRow.count),
            "tokens": .integer(author.tokenCount),
            "truncated": .integer(author.truncatedRows.count),
            "cross_entropy": try distribution(.crossEntropy, end: ReportData.ends.crossEntropy),
            "entropy": try distribution(.entropy, end: ReportData.ends.entropy),
        ]
    }

    // MARK: SAEs

    private func describe(
        _ sae: FinishedRun.TappedSAE, _ tokens: [[[String]]]
    ) throws -> JSONObject {
        func file(_ author: FinishedRun.Author) throws -> ActivationsFile {
            try run.activations(run.activationsPath(sae.hook, of: author), sae)
        }
        let counts = try forEachAuthor { _, author in
            try FeatureCounts(try file(author), lengths: author.tokensPerRow)
        }
        let authorTokens = run.authors.map(\.tokenCount)
        let firing = (0..<sae.width).compactMap {
            feature -> (feature: Int, contrast: FeatureContrast, count: Int)? in
            let each = counts.map { Int($0.tokens[feature]) }
            let count = each.reduce(0, +)
            guard count > 0 else { return nil }
            return (feature, FeatureContrast(counts: each, tokens: authorTokens), count)
        }
        var chosen = FeatureContrast.choose(firing, limit: options.featureCount)
        chosen += (options.extraFeatures[sae.hook] ?? []).filter { !chosen.contains($0) }
        let contexts = try forEachAuthor { number, author in
            try FeatureContext.find(
                chosen, in: try file(author), author: number, lengths: author.tokensPerRow,
                hasValues: run.hasRawValues, limit: options.contextCount)
        }
        let features = chosen.enumerated().map { place, feature -> JSONValue in
            let each = counts.map { Int($0.tokens[feature]) }
            let contrast = FeatureContrast(counts: each, tokens: authorTokens)
            let strongest = FeatureContext.strongest(
                contexts.flatMap { $0[place] }, limit: options.contextCount)
            return .object([
                "id": .integer(feature),
                "counts": .array(each.map(JSONValue.integer)),
                "documents": .array(counts.map { .integer(Int($0.documents[feature])) }),
                "log_odds": .array(contrast.logOdds.map { .rounded($0, 3) }),
                "z": .array(contrast.z.map { .rounded($0, 2) }),
                "contexts": .array(
                    strongest.map { context in
                        let pieces = tokens[context.author][context.document]
                        return .object([
                            "author": .integer(context.author),
                            "document": .integer(context.document),
                            "start": .integer(context.positions.lowerBound),
                            "tokens": .array(pieces[context.positions].map(JSONValue.string)),
                            "fires": .array(
                                context.fires.map { offset, value in
                                    .array([.integer(offset), .rounded(Double(value), 3)])
                                }),
                        ])
                    }),
            ])
        }
        let page = pages.page(of: sae, label: run.label)
        return [
            "hook": .string(sae.hook.description), "site": .string(sae.hook.site.rawValue),
            "layer": .integer(sae.hook.layer), "sae_name": .string(sae.name),
            "published_l0": sae.publishedL0.map(JSONValue.integer) ?? .null,
            "d_sae": .integer(sae.width),
            "neuronpedia": page.map(JSONValue.string) ?? .null,
            "neuronpedia_note": .string(page == nil ? NeuronpediaPages.note(for: sae) : ""),
            "alive": .integer(firing.count),
            "l0": .object(
                Distribution(occurrences: counts.map(\.tokensByL0).reduce([], sum)).json(places: 2)),
            "l0_by_author": .array(
                zip(counts, authorTokens).map {
                    .rounded(Double($0.entries) / Double(max($1, 1)), 2)
                }),
            "features": .array(features),
        ]
    }
}
