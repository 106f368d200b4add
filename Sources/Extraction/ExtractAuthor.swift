// The heart of the program: a batch of an author's documents goes through the model once, its taps through the
// SAEs, and what fired at each token is kept.

import Corpus
import Gemma2
import Logging
import SparseAutoencoders
import Tensors
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
    let log: Logger

    /// Runs the documents of `author` in `range` through the model, and the taps of `hooks` through their
    /// SAEs. With `checkingTaps`, says how well each SAE explains its tap. Throws `NonFiniteError` and
    /// `SAEError`.
    func extract(
        _ author: AuthorDocuments, _ sequences: ArraySlice<TokenSequence>, hooks: [HookPoint],
        checkingTaps: Bool
    ) throws -> BatchRecord {
        let batch = PackedBatch(sequences.map { head.tokens + $0.tokens })
        // The rows that become output: <bos> and the prefix are left out.
        let outputRows = (0..<batch.documentCount).map {
            batch.rows(of: $0).dropFirst(head.tokens.count)
        }
        func check(_ row: Int?, _ place: String) throws {
            guard let row else { return }
            let document = sequences.startIndex + batch.document(ofRow: row)
            throw NonFiniteError(
                author: author.author, document: document, line: author.documents[document].line,
                place: place)
        }
        var features: [HookPoint: SparseRows] = [:]
        let predictions = try model.forward(batch) { hook, activations in
            guard hooks.contains(hook), let sae = saes[hook] else { return }
            // The encoder's comparisons would turn a NaN into silence.
            try check(backend.firstNonFiniteRow(of: activations), hook.description)
            if checkingTaps {
                let all = try sae.encode(activations, above: 0)
                report(sae, hook, activations, all, outputRows)
                features[hook] = all.filtered(above: plan.featureThreshold).selecting(outputRows)
            } else {
                features[hook] = try sae.encode(activations, above: plan.featureThreshold)
                    .selecting(outputRows)
            }
        }
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

    /// The alarm for a wrong tap: an SAE that reads what it was made for explains it, with about as many
    /// features as published.
    private func report(
        _ sae: JumpReLUSAE<B>, _ hook: HookPoint, _ activations: B.Matrix, _ all: SparseRows,
        _ outputRows: [Range<Int>]
    ) {
        let tokens = outputRows.reduce(0) { $0 + $1.count }
        guard tokens > 0, let id = plan.saes.first(where: { $0.hook == hook })?.id else { return }
        let chosen = all.selecting(outputRows)
        let on = Double(chosen.columns.count) / Double(tokens)
        let firing = Double(chosen.values.count { $0 > plan.featureThreshold }) / Double(tokens)
        let explained = sae.explainedVariance(of: activations, features: all, rows: outputRows)
        log.info(
            "\(hook): \(id) explains \(decimals(explained, 3)) of the variance; L0 \(decimals(on, 1)) (above \(plan.featureThreshold): \(decimals(firing, 1))), published \(id.averageL0)"
        )
        let ratio = on / Double(id.averageL0)
        if ratio < 0.5 || ratio > 3 {
            log.warning(
                "\(hook): \(decimals(on, 1)) features are on at a token, but \(id) was published with \(id.averageL0): check that the SAE was made for this model, site and layer"
            )
        }
    }
}
