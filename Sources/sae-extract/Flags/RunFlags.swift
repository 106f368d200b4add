// All flags of a run, and the `RunOptions` that they give.

import ArgumentParser
import Corpus
import Files
import FoundationEssentials
import Logging
import Planning

/// The flags of a run. `fetch` and `saes` take them too.
struct RunFlags: ParsableArguments {
    @OptionGroup(title: "Model") var model: ModelFlags
    @OptionGroup(title: "SAEs") var saes: SAEFlags
    @OptionGroup(title: "Corpus") var corpus: CorpusFlags
    @OptionGroup(title: "Output") var output: OutputFlags
    @OptionGroup(title: "Execution") var execution: ExecutionFlags

    /// Returns the options that the flags give. Throws `UsageError` for invalid paths, and for numbers that are too
    /// small or too large.
    func options() throws -> RunOptions {
        func require(_ value: Int, atLeast least: Int, _ flag: String) throws -> Int {
            guard value >= least else {
                throw UsageError(flag, "\(value) is too small; give \(least) or more")
            }
            return value
        }
        var options = RunOptions()
        options.layers = model.layers
        if !model.layerTypes.isEmpty { options.sites = model.layerTypes }
        func path(_ path: String, _ flag: String) throws -> String {
            try UsageError.expandingHome(path, of: flag)
        }
        options.model = try path(model.model, "--model")
        options.modelPath = try model.modelPath.map { try path($0, "--model_path") }
        options.modelRevision = model.revision
        options.maximumLength = model.maximumLength
        options.prefix = model.prefix ?? ""
        options.saeDirectory = try saes.directory.map { try path($0, "--sae_dir") }
        options.saeRevision = saes.revision
        options.saeFeatures = saes.features
        options.targetL0 = try require(saes.targetL0, atLeast: 0, "--target_l0")
        options.saeIDs = saes.ids.map { ($0.site, $0.id) }
        guard saes.threshold >= 0, saes.threshold.isFinite else {
            throw UsageError(
                "--feature_threshold",
                "\(saes.threshold) is not valid; give a finite number of at least 0")
        }
        options.featureThreshold = saes.threshold
        // `-` means standard input.
        options.dataPath = try corpus.path.map {
            $0 == "-" ? "/dev/stdin" : try path($0, "--data_path")
        }
        options.dataRepository = corpus.repository
        options.dataRevision = corpus.revision
        options.selection.documentLimit = try corpus.limit.map {
            try require($0, atLeast: 1, "--n_docs")
        }
        options.selection.documentsPerAuthor = try require(
            corpus.perAuthor, atLeast: 1, "--n_docs_per_author")
        options.selection.minimumWords = try require(
            corpus.minimumWords, atLeast: 0, "--min_length_doc")
        options.selection.excludedAuthors = corpus.excluded
        options.selection.includedAuthors = corpus.included
        options.selection.authorField = corpus.authorField
        options.selection.textField = corpus.textField
        options.saveDirectory = try path(output.directory, "--save_dir")
        options.ignoresFreeSpace = output.ignoresFreeSpace
        options.storageFormat = output.format
        options.activationValues = output.values
        options.batchSize = execution.batchSize
        options.device = execution.device
        options.precision = execution.precision
        for (flag, count) in [
            ("--threads", execution.threads ?? 1), ("--workers", execution.workers ?? 1),
        ] {
            guard count <= 1024 else {
                throw UsageError(flag, "\(count) is too many; give at most 1024")
            }
            _ = try require(count, atLeast: 1, flag)
        }
        options.threads = execution.threads
        options.workers = execution.workers
        return options
    }

    /// Starts logging to standard error, at the level of --log_level. May be called once per process.
    func startLogging() {
        let level = execution.logLevel
        LoggingSystem.bootstrap { _ in StandardErrorLog(level: level) }
    }
}
