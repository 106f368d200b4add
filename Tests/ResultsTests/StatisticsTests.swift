// Tests that the numbers of a report equal their definitions.

import ArrayFiles
import ByteJSON
import Files
import Foundation
import Hooks
import RunFiles
import TestSupport
import Testing

@testable import Results

struct StatisticsTests {
    /// Checks percentiles against `numpy.percentile([3, 1, 4, 1, 5, 9, 2, 6], [5, 25, 50, 75, 95])`. They are
    /// interpolated at the positions 0.35, 1.75, 3.5, 5.25, 6.65 of the sorted values.
    @Test func percentilesAreNumPys() {
        let values: [Float] = [3, 1, 4, 1, 5, 9, 2, 6]
        let expected = [1, 1.75, 3.5, 5.25, 7.95]
        let found = Distribution(values)
        #expect(zip(found.percentiles, expected).allSatisfy { abs($0 - $1) < 1e-12 })
        #expect(found.mean == 31.0 / 8 && found.maximum == 9 && found.count == 8)
        var occurrences = [Int](repeating: 0, count: 10)
        for value in values { occurrences[Int(value)] += 1 }
        let counted = Distribution(occurrences: occurrences)
        #expect(counted == found)
        #expect(Distribution([]).mean == 0 && Distribution(occurrences: []).maximum == 0)
        #expect(Distribution([4]).percentiles == [4, 4, 4, 4, 4])
    }

    @Test func histogramsTakeWhatIsBeyond() {
        var histogram = Histogram(end: 10, bins: 5)
        histogram.add([0, 1.99, 2, 9.99, 10, 1000])
        #expect(histogram.counts == [2, 1, 0, 0, 3])
    }

    /// Checks the log odds of 10 of 100 tokens against 5 of 400: log(10.5 · 395.5 / (90.5 · 5.5)).
    @Test func logOddsAreTheDefinition() {
        let contrast = FeatureContrast(counts: [10, 5], tokens: [100, 400])
        let expected = log(10.5 * 395.5 / (90.5 * 5.5))
        let error = (1 / 10.5 + 1 / 90.5 + 1 / 5.5 + 1 / 395.5).squareRoot()
        #expect(abs(contrast.logOdds[0] - expected) < 1e-12)
        #expect(abs(contrast.logOdds[1] + expected) < 1e-12)
        #expect(abs(contrast.z[0] - expected / error) < 1e-12)
        // An author without tokens and a single author get 0. No result may be infinite.
        let empty = FeatureContrast(counts: [7, 0, 0], tokens: [7, 0, 50])
        #expect(empty.z[1] == 0 && empty.logOdds[1] == 0)
        #expect(empty.logOdds.allSatisfy(\.isFinite) && empty.logOdds[0] > 0)
        #expect(FeatureContrast(counts: [3], tokens: [9]).strength == 0)
    }

    /// Checks that authors choose in turn the best remaining feature for themselves. So an author with few tokens
    /// gets a feature too.
    @Test func choiceIsFair() {
        let tokens = [1000, 1000, 20]
        func entry(_ feature: Int, _ counts: [Int]) -> (
            feature: Int, contrast: FeatureContrast, count: Int
        ) {
            (feature, FeatureContrast(counts: counts, tokens: tokens), counts.reduce(0, +))
        }
        var all = (0..<50).map { entry($0, [900 - $0, 10, 0]) }
        all += [entry(77, [0, 300, 0]), entry(88, [5, 5, 8]), entry(99, [300, 300, 6])]
        let chosen = FeatureContrast.choose(all, limit: 4)
        #expect(Set(chosen) == [0, 77, 88, 1])
        #expect(chosen.first == 0)
        #expect(FeatureContrast.choose(all, limit: 0) == [])
        let alone = [(4, 10), (9, 30), (6, 30)].map {
            ($0.0, FeatureContrast(counts: [$0.1], tokens: [100]), $0.1)
        }
        #expect(FeatureContrast.choose(alone, limit: 2) == [6, 9])
    }

    /// Checks which SAEs have a page on Neuronpedia: canonical SAEs, and some others, whose pages are named by L0.
    @Test func neuronpediaHasSomePages() {
        func page(_ name: String, _ site: Site, _ label: String) -> String? {
            let sae = FinishedRun.TappedSAE(
                hook: HookPoint(layer: 5, site: site), name: name, width: 16_384, meanL0: 1,
                countedTokens: 1,
                hasDense: true, hasSparse: false)
            return NeuronpediaPages().page(of: sae, label: label)
        }
        #expect(
            page("layer_20/width_16k/average_l0_71", .res, "google/gemma-2-2b")
                == "gemma-2-2b/20-gemmascope-res-16k")
        #expect(
            page("layer_5/width_16k/average_l0_34", .res, "google/gemma-2-2b")
                == "gemma-2-2b/5-gemmascope-res-16k__l0-34")
        #expect(page("layer_5/width_16k/average_l0_34", .mlp, "google/gemma-2-2b") == nil)
        #expect(page("layer_5/width_16k/average_l0_33", .res, "google/gemma-2-2b") == nil)
        #expect(
            page("layer_20/width_16k/average_l0_68", .res, "google/gemma-2-9b")
                == "gemma-2-9b/20-gemmascope-res-16k")
    }

    /// Checks that the data cannot end the HTML element that holds them. Words in the data that look like
    /// placeholders must stay.
    @Test func thePageHoldsItsData() throws {
        let data: JSONObject = [
            "a": "</script><!-- @CSS@ & \" \n", "b": .array([1, .number(0.5)]),
        ]
        let page = String(decoding: ReportPage.html(data, title: "<b>&"), as: UTF8.self)
        #expect(page.contains(#"{"a":"\u003c/script>\u003c!-- @CSS@ & \" \n","b":[1,0.5]}"#))
        #expect(page.contains("<title>&lt;b>&amp;</title>"))
        for place in ["@TITLE@", "@JS@", "@DATA@"] { #expect(!page.contains(place)) }
        #expect(page.components(separatedBy: "</script>").count == 3)
    }
}

struct ContextTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private func file(_ entries: [(row: Int, feature: Int, value: Float)]) throws -> ActivationsFile
    {
        let path = folder.file("a.npz")
        try OutputFile.make(path: path, temporaryDirectory: folder.path) { file in
            let archive = NPZWriter(file, level: 1)
            try archive.addSparse("activations", NPYHeader(descr: "<f4", shape: [3, 100, 8])) {
                element in
                for entry in entries { try element(entry.row * 8 + entry.feature, entry.value) }
            }
            try archive.finish()
        }
        return try ActivationsFile(path: path)
    }

    /// Checks the order of passages. With binary values, the passage in which the feature fires most often comes
    /// first. With raw values, the passage with the largest activation comes first. A passage must end within its
    /// document.
    @Test func theStrongestPassages() throws {
        let entries: [(row: Int, feature: Int, value: Float)] = [
            (2, 1, 9), (50, 1, 1), (52, 1, 1), (55, 1, 2), (90, 1, 1),  // document 0
            (105, 1, 3),  // document 1
            (220, 1, 1), (221, 1, 1), (221, 2, 5), (222, 1, 1), (223, 1, 1),  // document 2
        ]
        let lengths = [95, 10, 60]
        func find(hasValues: Bool, limit: Int = 9) throws -> [FeatureContext] {
            try FeatureContext.find(
                [1], in: file(entries), author: 4, lengths: lengths, hasValues: hasValues,
                limit: limit)[0]
        }
        let ones = try find(hasValues: false)
        #expect(ones.map(\.document) == [2, 0, 1])
        #expect(ones.map(\.score) == [4, 3, 1])
        #expect(ones[1].positions == 38..<64)
        #expect(ones[1].fires.map(\.offset) == [12, 14, 17])
        #expect(ones[2].positions == 0..<10 && ones[2].fires.map(\.offset) == [5])
        let raw = try find(hasValues: true)
        #expect(raw.map(\.document) == [0, 1, 2] && raw.map(\.score) == [9, 3, 1])
        #expect(raw[0].positions == 0..<26 && raw[0].fires.map(\.value) == [9])
        #expect(try find(hasValues: true, limit: 1).count == 1)
        // Passages with equal scores alternate between the authors.
        var others = raw
        for i in others.indices { others[i].author = 5 }
        let both = FeatureContext.strongest(raw + others, limit: 4)
        #expect(both.map(\.author) == [4, 5, 4, 5] && both.map(\.score) == [9, 9, 3, 3])
    }

    @Test func countsAreThoseOfTheTokens() throws {
        let counts = try FeatureCounts(
            file([(0, 1, 1), (0, 3, 1), (1, 1, 1), (101, 1, 1), (200, 7, 1)]),
            lengths: [3, 2, 1])
        #expect(counts.tokens == [0, 3, 0, 1, 0, 0, 0, 1])
        #expect(counts.documents == [0, 2, 0, 1, 0, 0, 0, 1])
        #expect(counts.tokensByL0 == [2, 3, 1] && counts.entries == 5 && counts.alive == 3)
        #expect(throws: ResultsError.self) {
            try FeatureCounts(file([(3, 0, 1)]), lengths: [3, 2, 1])
        }
    }
}
