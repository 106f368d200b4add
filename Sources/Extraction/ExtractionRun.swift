// A run from its plan to its last file.

import ArrayFiles
import Corpus
import Foundation
import Gemma2
import Logging
import SparseAutoencoders
import Tensors
import Tokenization

/// Carries out plans.
public enum ExtractionRun {
    /// Loads what `plan` names, then extracts and writes author by author. Files of the same names are
    /// replaced. Throws the readers' errors, `FileError` and `NonFiniteError`; authors that are complete by
    /// then keep their files.
    public static func run(_ plan: RunPlan, log: Logger) throws {
        var manifest = try Manifest(plan)
        try makeDirectories(plan.stateDirectory)
        let journal = try Journal(directory: plan.stateDirectory)
        let backend = try OpenBLASBackend(threadCount: plan.threads)
        let extractor = try load(
            plan, on: backend, threads: backend.threads, into: &manifest, log: log)

        var checkingTaps = true
        for author in plan.authors {
            let summary = try manifest.timing.measure(.model) {
                try extractor.extract(author, into: journal, checkingTaps: &checkingTaps)
            }
            try manifest.timing.measure(.writing) {
                try FeatureWriter(
                    plan: plan, author: author, summary: summary, journal: journal,
                    tokenizer: extractor.tokenizer, widths: extractor.saes.mapValues(\.dSAE)
                ).write(on: backend.threads)
            }
            try journal.removeAll()
            manifest.add(summary)
            report(summary, of: plan, log: log)
        }
        try manifest.write()
        let (tokens, seconds) = (manifest.tokenCount, manifest.timing.seconds(.model))
        log.info(
            "\(plan.authors.count) authors, \(tokens) tokens, \(decimals(Double(tokens) / max(seconds, 1e-9), 1)) tokens/s in the model and SAEs, \(decimals(manifest.timing.total, 1)) s in all; results in \(plan.saveDirectory)"
        )
    }

    private static func load<B: Backend>(
        _ plan: RunPlan, on backend: B, threads: ThreadPool, into manifest: inout Manifest,
        log: Logger
    ) throws -> Extractor<B> {
        try manifest.timing.measure(.loading) {
            let configPath = plan.modelDirectory + "/config.json"
            let config = try Gemma2Config(path: configPath)
            let tokenizer = try GemmaTokenizer(directory: plan.modelDirectory)
            guard tokenizer.count <= config.dVocab else {
                throw CheckpointError.badConfig(
                    path: configPath,
                    reason:
                        "vocab_size is \(config.dVocab), but the tokenizer beside it has ids up to \(tokenizer.count - 1)"
                )
            }
            let head = SequenceHead(prefix: plan.prefix, tokenizer)
            let length = plan.maximumLength + head.tokens.count - 1
            guard length <= config.nContext else {
                throw UsageError(
                    "--prefix",
                    "has \(head.tokens.count - 1) tokens; with --max_seq_len \(plan.maximumLength) that is more than the model's \(config.nContext) positions; shorten either"
                )
            }
            let files = try CheckpointFiles(directory: plan.modelDirectory)
            let model = try Gemma2Model(files, config: config, maximumLength: length, on: backend)
            var parameters = [SAEParameters?](repeating: nil, count: plan.saes.count)
            try parameters.withUnsafeMutableBufferPointer { parameters in
                nonisolated(unsafe) let parameters = parameters
                try threads.tryForEach(plan.saes.count) { item, _ in
                    let sae = plan.saes[item]
                    parameters[item] = try SAEParameters(
                        directory: sae.directory, dIn: config.width(of: sae.hook.site),
                        hookName: sae.hook.description)
                }
            }
            let loaded = zip(plan.saes, parameters.map { $0! })
            manifest.describe(files, loaded, kernels: backend.kernels)
            log.info(
                "\(plan.label): \(config.nLayers) layers, \(plan.saes.count) SAEs; \(backend.kernels), \(plan.threads) threads"
            )
            return Extractor(
                plan: plan, tokenizer: tokenizer, head: head, model: model,
                saes: Dictionary(
                    uniqueKeysWithValues: loaded.map {
                        ($0.hook, JumpReLUSAE($1, on: backend))
                    }),
                backend: backend, threads: threads, log: log)
        }
    }

    private static func report(_ summary: AuthorSummary, of plan: RunPlan, log: Logger) {
        let l0 = summary.meanL0(bySiteOf: plan.saes).map {
            "\($0.site.rawValue) \(decimals($0.l0, 2))"
        }
        log.info(
            "\(summary.author): \(summary.tokens.count) documents, \(summary.tokenCount) tokens, mean cross-entropy \(decimals(summary.meanCrossEntropy, 3)), mean entropy \(decimals(summary.meanEntropy, 3)), features on per token: \(l0.joined(separator: ", "))"
        )
        if !summary.truncatedRows.isEmpty {
            log.warning(
                "\(summary.author): \(summary.truncatedRows.count) of \(summary.tokens.count) documents were cut to \(plan.maximumLength) tokens (--max_seq_len)"
            )
        }
    }
}

extension AuthorSummary {
    /// Mean number of features that fired at a token, by hook.
    func meanL0(_ hook: HookPoint) -> Double {
        Double(firingCounts[hook] ?? 0) / Double(max(tokenCount, 1))
    }

    /// The same by site, averaged over layers.
    func meanL0(bySiteOf saes: [ChosenSAE]) -> [(site: Site, l0: Double)] {
        Site.allCases.compactMap { site in
            let hooks = saes.map(\.hook).filter { $0.site == site }
            guard !hooks.isEmpty else { return nil }
            return (site, hooks.reduce(0) { $0 + meanL0($1) } / Double(hooks.count))
        }
    }
}
