// The heart of the program: a batch of an author's documents goes through the model once, its taps through the
// SAEs, and what fired at each token is kept.

import Corpus
import Files
import Gemma2
import Hooks
import Logging
import Planning
import RunState
import SparseAutoencoders
import Tensors
import Threading
import Tokenization

/// A number that is none.
public struct NonFiniteError: Error, Equatable, CustomStringConvertible {
    /// The author.
    public let author: String
    /// The document's index within the author, and its line in the corpus.
    public let document: Int
    /// The line of the corpus on which the document's record begins.
    public let line: Int
    /// Where: a hook's name or "the logits".
    public let place: String

    /// Where it appeared and what to do.
    public var description: String {
        "author '\(author)', document \(document) (line \(line) of the corpus): NaN or infinity in \(place); the checkpoint is damaged or not a Gemma-2 model: check it, or leave the document out"
    }
}

/// The model and the SAEs, loaded, and what of each batch is kept.
struct Extractor<B: Backend> {
    let plan: RunPlan
    let head: SequenceHead
    let model: Gemma2Model<B>
    let saes: [HookPoint: JumpReLUSAE<B>]
    let backend: B
    let threads: ThreadPool
    /// Does what no result waits for, beside the caller's work where that waits for a device.
    let aside: (_ body: @escaping (ThreadPool) -> Void) throws -> Void
    let log: Logger

    /// Rows that are compared with what an SAE makes of them: enough for a judgement.
    private static var checkedRows: Int { 512 }

    /// Has the device run the documents of `author` in `sequences` through the model, and the taps of `hooks` through
    /// their SAEs. The result throws `NonFiniteError` and `SAEError`. With `checkingTaps`, says how well each SAE
    /// explains its tap.
    func extract(
        _ author: AuthorDocuments, _ sequences: ArraySlice<TokenSequence>, hooks: [HookPoint],
        checkingTaps: Bool
    ) throws -> Deferred<BatchRecord> {
        let batch = PackedBatch(sequences.map { head.tokens + $0.tokens })
        // The rows that become output: <bos> and the prefix are left out.
        let outputRows = (0..<batch.documentCount).map {
            batch.rows(of: $0).dropFirst(head.tokens.count)
        }
        var taps: [Tap] = []
        let predictions: Deferred<TokenPredictions>
        do {
            predictions = try model.forward(batch) { hook, activations in
                guard hooks.contains(hook), let sae = saes[hook] else { return }
                taps.append(try tap(hook, activations, sae, outputRows, isChecked: checkingTaps))
            }
        } catch {
            withExtendedLifetime(taps) { backend.abandonBatch() }
            throw error
        }
        return Deferred {
            func check(_ row: Int?, _ place: String) throws {
                guard let row else { return }
                let document = sequences.startIndex + batch.document(ofRow: row)
                throw NonFiniteError(
                    author: author.author, document: document,
                    line: author.documents[document].line, place: place)
            }
            let found = try taps.map { tap in
                try check(try tap.firstNonFiniteRow.value(), tap.hook.description)
                return try tap.features.value()
            }
            let features = try collect(taps, found, outputRows)
            let predictions = try predictions.value()
            try check(predictions.firstNonFiniteRow, "the logits")
            let documents = zip(sequences, outputRows).map { sequence, rows in
                DocumentRecord(
                    tokens: sequence.tokens,
                    // Entry j: how surprising token j was where it was predicted, one row earlier …
                    crossEntropy: rows.map { Float16(predictions.crossEntropy[$0 - 1]) },
                    // … and how uncertain the prediction made at token j is.
                    entropy: rows.map { Float16(predictions.entropy[$0]) })
            }
            return BatchRecord(documents: documents, features: features)
        }
    }

    /// What is asked for of one hook.
    private func tap(
        _ hook: HookPoint, _ activations: B.Matrix, _ sae: JumpReLUSAE<B>,
        _ outputRows: [Range<Int>], isChecked: Bool
    ) throws -> Tap {
        let (firstNonFiniteRow, features) = try backend.measure(.saes) {
            (
                // The encoder's comparisons would turn a NaN into silence.
                try backend.firstNonFiniteRow(of: activations),
                try sae.encode(activations, above: isChecked ? 0 : plan.featureThreshold)
            )
        }
        return Tap(
            hook: hook, firstNonFiniteRow: firstNonFiniteRow, features: features,
            check: isChecked
                ? try TapCheck(outputRows, atLeast: Self.checkedRows) {
                    try backend.elements(of: activations, rows: $0)
                } : nil)
    }

    /// The output rows of each hook's features, the hooks shared out over threads.
    private func collect(
        _ taps: [Tap], _ found: [FiringFeatures], _ outputRows: [Range<Int>]
    ) throws -> [HookPoint: SparseRows] {
        var rows = [SparseRows](repeating: SparseRows(), count: taps.count)
        rows.withUnsafeMutableBufferPointer { rows in
            nonisolated(unsafe) let rows = rows
            threads.forEach(taps.count) { item, _ in
                let all = found[item].rows(outputRows)
                rows[item] =
                    taps[item].check == nil ? all : all.filtered(above: plan.featureThreshold)
            }
        }
        let checks = zip(taps, found).compactMap { tap, found in
            tap.check.map { (tap.hook, $0, found.rows($0.rows)) }
        }
        // It goes through most of each W_dec, for which no device should wait.
        if !checks.isEmpty { try aside { report(checks, on: $0) } }
        return Dictionary(uniqueKeysWithValues: zip(taps.map(\.hook), rows))
    }

    /// Says of each tap how it fits its SAE.
    private func report(_ checks: [(HookPoint, TapCheck, SparseRows)], on threads: ThreadPool) {
        var reports = [TapReport?](repeating: nil, count: checks.count)
        reports.withUnsafeMutableBufferPointer { reports in
            nonisolated(unsafe) let reports = reports
            threads.forEach(checks.count) { item, _ in
                let (hook, check, chosen) = checks[item]
                reports[item] = report(hook, check, chosen)
            }
        }
        for report in reports.compactMap({ $0 }) {
            log.info("\(report.text)")
            if let warning = report.warning { log.warning("\(warning)") }
        }
    }

    /// The alarm for a wrong tap: an SAE that reads what it was made for explains it, with about as many
    /// features as published. `chosen` are the features that are on in the rows of `check`.
    private func report(_ hook: HookPoint, _ check: TapCheck, _ chosen: SparseRows) -> TapReport? {
        guard check.rowCount > 0, let sae = saes[hook],
            let id = plan.saes.first(where: { $0.hook == hook })?.id
        else { return nil }
        let on = Double(chosen.columns.count) / Double(check.rowCount)
        let firing =
            Double(chosen.values.count { $0 > plan.featureThreshold }) / Double(check.rowCount)
        let explained = sae.explainedVariance(of: check.activations, features: chosen)
        let text =
            "\(hook): \(id) explains \(decimals(explained, 3)) of the variance; L0 \(decimals(on, 1)) (above \(plan.featureThreshold): \(decimals(firing, 1))), published \(id.averageL0)"
        let ratio = on / Double(id.averageL0)
        let isFitting = ratio >= 0.5 && ratio <= 3
        return TapReport(
            text: text,
            warning: isFitting
                ? nil
                : "\(hook): \(decimals(on, 1)) features are on at a token, but \(id) was published with \(id.averageL0): check that the SAE was made for this model, site and layer"
        )
    }
}

/// One hook's share of a batch on the device.
private struct Tap {
    let hook: HookPoint
    let firstNonFiniteRow: Deferred<Int?>
    let features: Deferred<FiringFeatures>
    let check: TapCheck?
}

/// What is said of how an SAE fits its tap.
private struct TapReport {
    let text: String
    let warning: String?
}

/// Activations of a batch's first documents, for a look at how well an SAE explains them.
private struct TapCheck {
    /// The documents' output rows.
    var rows: [Range<Int>] = []
    /// Their activations, end to end.
    private(set) var activations: [Float] = []

    var rowCount: Int { rows.reduce(0) { $0 + $1.count } }

    /// Takes documents until there are `least` rows. `elements` gives the elements of rows.
    init(
        _ documents: [Range<Int>], atLeast least: Int, elements: (Range<Int>) throws -> [Float]
    ) rethrows {
        for document in documents where rowCount < least && !document.isEmpty {
            rows.append(document)
            activations += try elements(document)
        }
    }
}
