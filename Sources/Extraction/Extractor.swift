// Runs a batch of documents through the model and encodes the activations at each hook with its SAE. For each token,
// collects the features that fire, the cross-entropy and the entropy.

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

/// A NaN or infinity in an activation or logit.
package struct NonFiniteError: Error, Equatable, CustomStringConvertible {
    /// The author.
    package let author: String
    /// The index of the document among the author's documents.
    package let document: Int
    /// The line of the corpus on which the document's record begins.
    package let line: Int
    /// The place in the model: the name of a hook, or "the logits".
    package let place: String

    /// The message: the document, the place in the model, and the next step.
    package var description: String {
        "author '\(author)', document \(document) (line \(line) of the corpus): NaN or infinity in \(place); the checkpoint is damaged or not a Gemma-2 model; check it, download it again, or remove the document from the corpus"
    }
}

/// A loaded model with its SAEs.
struct Extractor<B: Backend> {
    let plan: RunPlan
    let head: SequenceHead
    let model: Gemma2Model<B>
    let saes: [HookPoint: JumpReLUSAE<B>]
    let backend: B
    let threads: ThreadPool
    /// Runs work that no result depends on, for example the measurements of SAEs for the log. On CUDA, other threads
    /// do this work while the device computes.
    let aside: (_ body: @escaping (ThreadPool) -> Void) throws -> Void
    let log: Logger

    /// The number of rows on which the explained variance and the L0 of an SAE are measured.
    private static var checkedRows: Int { 512 }

    /// Starts the forward pass of `sequences`, which are documents of `author`, and encodes the activations at
    /// `hooks`. Reading the result waits for the device, and throws `NonFiniteError`, `SAEError` and
    /// `ResultOverflow`. If `checkingTaps` is true, logs how well each SAE reconstructs its activations.
    func extract(
        _ author: AuthorDocuments, _ sequences: ArraySlice<TokenSequence>, hooks: [HookPoint],
        checkingTaps: Bool
    ) throws -> Deferred<BatchRecord> {
        let batch = PackedBatch(sequences.map { head.tokens + $0.tokens })
        // The output has no rows for `<bos>` and the prefix, so these rows of each document are dropped.
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
                    // Entry j is −log p of token j. The model predicts token j in the row before it.
                    crossEntropy: rows.map { Float16(predictions.crossEntropy[$0 - 1]) },
                    // Entry j is the entropy of the prediction made at token j, for token j + 1.
                    entropy: rows.map { Float16(predictions.entropy[$0]) })
            }
            return BatchRecord(documents: documents, features: features)
        }
    }

    /// Starts the encoding of one hook's activations.
    private func tap(
        _ hook: HookPoint, _ activations: B.Matrix, _ sae: JumpReLUSAE<B>,
        _ outputRows: [Range<Int>], isChecked: Bool
    ) throws -> Tap {
        let (firstNonFiniteRow, features) = try backend.measure(.saes) {
            (
                // Looks for NaN and infinity before the encoder runs. The encoder compares activations with a
                // threshold, which is false for NaN. So no feature would fire, and no error would be reported.
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

    /// Returns the features that fire in the output rows, by hook. If the taps are checked, also starts the report on
    /// the SAEs.
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
        // The report reads most rows of each SAE's W_dec. With `aside`, the device does not wait for the report.
        if !checks.isEmpty { try aside { report(checks, on: $0) } }
        return Dictionary(uniqueKeysWithValues: zip(taps.map(\.hook), rows))
    }

    /// Logs how well each SAE reconstructs its activations.
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

    /// Measures how well the SAE of `hook` reconstructs the activations of `check`. `chosen` are the features with an
    /// activation above 0. Warns if the measured L0 is less than half or more than three times the published L0,
    /// because then the model, layer or site is probably wrong.
    private func report(_ hook: HookPoint, _ check: TapCheck, _ chosen: SparseRows) -> TapReport? {
        guard check.rowCount > 0, let sae = saes[hook],
            let id = plan.saes.first(where: { $0.hook == hook })?.id
        else { return nil }
        let on = Double(chosen.columns.count) / Double(check.rowCount)
        let firing =
            Double(chosen.values.count { $0 > plan.featureThreshold }) / Double(check.rowCount)
        let explained = sae.explainedVariance(of: check.activations, features: chosen)
        let text =
            "\(hook): \(id) explains \(decimals(explained, 3)) of the variance; L0 \(decimals(on, 1)) (\(decimals(firing, 1)) above \(plan.featureThreshold)), published L0 \(id.averageL0)"
        let ratio = on / Double(id.averageL0)
        let isFitting = ratio >= 0.5 && ratio <= 3
        return TapReport(
            text: text,
            warning: isFitting
                ? nil
                : "\(hook): \(decimals(on, 1)) features are on at a token (activation above 0), but the published L0 of \(id) is \(id.averageL0); check that the SAE was made for this model, site and layer"
        )
    }
}

/// The results of one hook for a batch. The device may still be computing them.
private struct Tap {
    let hook: HookPoint
    let firstNonFiniteRow: Deferred<Int?>
    let features: Deferred<FiringFeatures>
    let check: TapCheck?
}

/// The log lines about one SAE.
private struct TapReport {
    let text: String
    let warning: String?
}

/// The activations of the first documents of a batch, on which an SAE is checked.
private struct TapCheck {
    /// The output rows of these documents.
    var rows: [Range<Int>] = []
    /// The activations of `rows`, end to end.
    private(set) var activations: [Float] = []

    var rowCount: Int { rows.reduce(0) { $0 + $1.count } }

    /// Takes whole documents until they have at least `least` rows. `elements` returns the activations of a range of
    /// rows.
    init(
        _ documents: [Range<Int>], atLeast least: Int, elements: (Range<Int>) throws -> [Float]
    ) rethrows {
        for document in documents where rowCount < least && !document.isEmpty {
            rows.append(document)
            activations += try elements(document)
        }
    }
}
