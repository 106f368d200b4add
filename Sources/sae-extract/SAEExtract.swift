// The flags of the main job, as users' existing scripts spell them.

import ArgumentParser
import Corpus
import Files
import FoundationEssentials
import Hooks
import Logging
import Planning
import RunFiles
import Tensors

/// The command line.
struct SAEExtract: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sae-extract",
        abstract:
            "Runs Gemma-2 over a corpus and records which Gemma Scope SAE features fire at which token.",
        discussion: """
            Every document goes through the model once. The residual stream, the MLP output and the \
            attention heads of each layer asked for are encoded with a JumpReLU SAE; the features that \
            fire, the per-token cross-entropy and entropy, the tokens and the texts are written per \
            author to --save_dir as NPZ, NPY and JSON.

            Example:
              sae-extract --layers 5 10 15

            The model, the SAEs and the corpus are taken from the paths given, else from the Hugging Face \
            cache (HF_HOME), else downloaded into it; `sae-extract fetch` with the same flags downloads \
            them and does no more, for machines without network afterwards (HF_HUB_OFFLINE=1). Gemma is \
            gated: accept its terms on its page and give a token in HF_TOKEN.

            Lists take several values after one flag, with spaces or (authors excepted) commas between them; a flag \
            given twice replaces. --n-docs and --n_docs are the same flag. Each flag also reads the environment: \
            --n_docs is SAE_EXTRACT_N_DOCS (authors split at newlines). ~ at the front of a path is the home folder.

            A run that was killed or stopped is continued by the same command. Several processes share the \
            work as ranks: --rank and --world_size, or what torchrun, srun, mpirun and other launchers say.

            Exit codes: 0 done, 1 a worker failed and the rest finished, 64 usage, 65 bad corpus, \
            checkpoint or SAE, 69 device or Hub unavailable, 70 internal error, 74 I/O error, disk full or memory refused, 75 stopped by a \
            signal (run again to continue), 78 --save_dir holds results of another configuration.
            """,
        // Printed by Main.printVersion, which says more than this.
        version: RunFiles.version,
        subcommands: [
            Fetch.self, ListSAEs.self, Devices.self, Inspect.self, Report.self, Verify.self,
        ])

    /// `sae-extract fetch`.
    struct Fetch: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Downloads what a run with the same flags will need from the Hugging Face Hub, and does no more.",
            discussion: """
                Says first what it is and how large. Files that are in the cache already are not downloaded \
                again; a download that was broken off is continued. With --dry_run nothing is downloaded but the \
                model's configuration and lists of files, which tell the rest.

                Afterwards the run needs no network: HF_HUB_OFFLINE=1 sae-extract ...
                """)

        @OptionGroup var run: SAEExtract
    }

    /// `sae-extract saes`.
    struct ListSAEs: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "saes",
            abstract:
                "Prints which SAEs exist for --model, --layers (all without) and --layer_types, and which a run would take.",
            discussion: """
                They are the Hub's, or those in --sae_dir. Other flags of a run are taken and say nothing here.
                """)

        @OptionGroup var run: SAEExtract
    }

    /// `sae-extract devices`.
    struct Devices: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Prints the NVIDIA devices that a run would use, the libraries that were found for them, and what is missing.",
            discussion: """
                CUDA_VISIBLE_DEVICES is honoured. Libraries are looked for by name (LD_LIBRARY_PATH), in CUDA_HOME and \
                /usr/local/cuda, in conda's and Python's environments, and where SAE_EXTRACT_CUDA_DRIVER_LIB, \
                SAE_EXTRACT_CUDART_LIB and SAE_EXTRACT_CUBLAS_LIB say.
                """)
    }

    struct Model: ParsableArguments {
        @Option(
            name: .customLong("layers"), parsing: .upToNextOption,
            help: ArgumentHelp(
                "Layers to tap, from 0: 5 10 15, or 5,10,15, or 5-8. Required.", valueName: "n ..."
            ))
        var layers: [Int] = []

        @Option(
            name: .customLong("layer_types"), parsing: .upToNextOption,
            help: ArgumentHelp(
                "Sites to tap: residual stream, MLP output, attention heads. (default: res mlp att)",
                valueName: "site ..."))
        var layerTypes: [Site] = []

        @Option(
            name: .customLong("model"),
            help: ArgumentHelp(
                "\(RunOptions.knownModels.joined(separator: ", ")), or a checkpoint's folder. Names the files.",
                valueName: "id|dir"))
        var model = RunOptions().model

        @Option(
            name: .customLong("model_path"),
            help: ArgumentHelp(
                "The checkpoint's folder, when --model is an id. (default: of the Hub)",
                valueName: "dir"), completion: .directory)
        var modelPath: String?

        @Option(
            name: .customLong("revision"),
            help: ArgumentHelp(
                "Branch, tag or commit of the model's repository.", valueName: "revision"))
        var revision = RunOptions().modelRevision

        @Option(
            name: .customLong("max_seq_len"),
            help: ArgumentHelp("Most tokens of a document, <bos> included.", valueName: "n"))
        var maximumLength = RunOptions().maximumLength

        @Option(
            name: .customLong("prefix"),
            help: ArgumentHelp(
                "Text put before each document; its tokens appear in no output.", valueName: "text")
        )
        var prefix: String?
    }

    struct SAEs: ParsableArguments {
        @Option(
            name: .customLong("sae_dir"),
            help: ArgumentHelp(
                "Folder of SAEs: gemma-scope-{2b|9b}-pt-{res|mlp|att}/layer_L/width_W/average_l0_N/. (default: of the Hub)",
                valueName: "dir"), completion: .directory)
        var directory: String?

        @Option(
            name: .customLong("sae_revision"),
            help: ArgumentHelp(
                "Branch, tag or commit of the SAEs' repositories.", valueName: "revision"))
        var revision = RunOptions().saeRevision

        @Option(
            name: .customLong("sae_features"),
            help: ArgumentHelp("The SAEs' width: 16k, 32k, 65k, ...", valueName: "width"))
        var features = RunOptions().saeFeatures

        @Option(
            name: .customLong("target_l0"),
            help: ArgumentHelp("Take the SAE whose average L0 is nearest.", valueName: "n"))
        var targetL0 = RunOptions().targetL0

        @Option(
            name: .customLong("sae_id"), parsing: .upToNextOption,
            help: ArgumentHelp(
                "SAEs to take instead: res:layer_5/width_16k/average_l0_34.",
                valueName: "site:id ..."))
        var ids: [NamedSAE] = []

        @Option(
            name: .customLong("feature_threshold"),
            help: ArgumentHelp(
                "A feature fires where its activation is above this.", valueName: "x"))
        var threshold = RunOptions().featureThreshold
    }

    struct Documents: ParsableArguments {
        @Option(
            name: .customLong("data_path"),
            help: ArgumentHelp(
                "AuthorMix records: JSONL or a JSON array; plain, gzip or zstd; - for standard input. (default: of the Hub)",
                valueName: "file"), completion: .file())
        var path: String?

        @Option(
            name: .customLong("data_repo"),
            help: ArgumentHelp(
                "The Hub's dataset whose split train is read, when there is no --data_path.",
                valueName: "id"))
        var repository = RunOptions().dataRepository

        @Option(
            name: .customLong("data_revision"),
            help: ArgumentHelp("Branch, tag or commit of the dataset.", valueName: "revision"))
        var revision = RunOptions().dataRevision

        @Option(
            name: .customLong("n_docs"),
            help: ArgumentHelp(
                "Stop after this many accepted documents, over all authors.", valueName: "n"))
        var limit: Int?

        @Option(
            name: .customLong("n_docs_per_author"),
            help: ArgumentHelp("Most documents of one author.", valueName: "n"))
        var perAuthor = Selection().documentsPerAuthor

        @Option(
            name: .customLong("min_length_doc"),
            help: ArgumentHelp("Fewest words of a document.", valueName: "n"))
        var minimumWords = Selection().minimumWords

        @Option(
            name: .customLong("exclude_authors"), parsing: .upToNextOption,
            help: ArgumentHelp("Authors to skip.", valueName: "author ..."))
        var excluded: [String] = []

        @Option(
            name: .customLong("include_authors"), parsing: .upToNextOption,
            help: ArgumentHelp("The only authors to take.", valueName: "author ..."))
        var included: [String] = []

        @Option(
            name: .customLong("author_field"),
            help: ArgumentHelp("The record's key for the author.", valueName: "key"))
        var authorField = Selection().authorField

        @Option(
            name: .customLong("text_field"),
            help: ArgumentHelp("The record's key for the text.", valueName: "key"))
        var textField = Selection().textField
    }

    struct Output: ParsableArguments {
        @Option(
            name: .customLong("save_dir"),
            help: ArgumentHelp("Where results go.", valueName: "dir"), completion: .directory)
        var directory = RunOptions().saveDirectory

        @Option(
            name: .customLong("storage_format"),
            help: ArgumentHelp("Whole arrays, CSR matrices, or both.", valueName: "format"))
        var format = RunOptions().storageFormat

        @Option(
            name: .customLong("activation_values"),
            help: ArgumentHelp(
                "Store 1 where a feature fires, or its activation.", valueName: "kind"))
        var values = RunOptions().activationValues

        @Flag(
            name: .customLong("overwrite"),
            help:
                "Remove what earlier runs of this model left in --save_dir of the files that this command makes, and start anew."
        )
        var isOverwriting = false

        @Flag(
            name: .customLong("ignore_free_space"),
            help:
                "Begin even where a file system says that it has less room than is needed; for those that say less than they have."
        )
        var ignoresFreeSpace = false

        @Flag(
            name: .customLong("dry_run"),
            help: "Show what would be done and what is done already, and do nothing.")
        var isDryRun = false
    }

    struct Execution: ParsableArguments {
        @Option(
            name: .customLong("batch_size"),
            help: ArgumentHelp(
                "Documents per forward pass; auto: about 1,000 tokens on the CPU, on CUDA by the device's memory. (default: 2 on the CPU, auto on CUDA)",
                valueName: "n|auto"))
        var batchSize: BatchSize?

        @Option(
            name: .customLong("device"),
            help: ArgumentHelp(
                "Where to compute; auto: on NVIDIA devices where there is a driver, else on the CPU.",
                valueName: "device"))
        var device = RunOptions().device

        @Option(
            name: .customLong("dtype"),
            help: ArgumentHelp(
                "float32: results faithful to it; bfloat16: products of rounded operands, faster on CUDA and on processors with AVX-512 BF16.",
                valueName: "type"))
        var precision = RunOptions().precision

        @Option(
            name: .customLong("threads"),
            help: ArgumentHelp(
                "Threads that a worker computes on. (default: cores that the process may use / workers)",
                valueName: "n"))
        var threads: Int?

        @Option(
            name: .customLong("workers"),
            help: ArgumentHelp(
                "Worker processes; each is one rank. (default: 1 on the CPU, one for each CUDA device)",
                valueName: "n"))
        var workers: Int?

        @Option(
            name: .customLong("rank"),
            help: ArgumentHelp(
                "Which of several separately started processes this is, from 0. (default: the launcher's: torchrun's, srun's, mpirun's)",
                valueName: "n"))
        var rank: Int?

        @Option(
            name: .customLong("world_size"),
            help: ArgumentHelp("How many of them there are.", valueName: "n"))
        var worldSize: Int?

        @Option(
            name: .customLong("progress"),
            help: ArgumentHelp(
                "How far the run is: auto (bar on a terminal, else plain), bar, plain (a line now and then), json (on standard output), none.",
                valueName: "style"))
        var progress = ProgressStyle.auto

        @Option(
            name: .customLong("log_level"),
            help: ArgumentHelp("How much to say on standard error.", valueName: "level"))
        var logLevel = Logger.Level.info
    }

    @OptionGroup(title: "Model") var model: Model
    @OptionGroup(title: "SAEs") var saes: SAEs
    @OptionGroup(title: "Corpus") var corpus: Documents
    @OptionGroup(title: "Output") var output: Output
    @OptionGroup(title: "Execution") var execution: Execution

    /// The command line's settings. Throws `UsageError` for numbers that no model or corpus could serve.
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
                "--feature_threshold", "\(saes.threshold) is not a number of at least 0")
        }
        options.featureThreshold = saes.threshold
        // As for other tools, "-" is standard input.
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
}

extension Site: ExpressibleByArgument {}
extension DeviceChoice: ExpressibleByArgument {}
extension Precision: ExpressibleByArgument {}
extension StorageFormat: ExpressibleByArgument {}
extension ActivationValues: ExpressibleByArgument {}
extension ProgressStyle: ExpressibleByArgument {}
extension Logger.Level: @retroactive ExpressibleByArgument {}

extension BatchSize: ExpressibleByArgument {
    /// A whole number of at least 1, or `auto`.
    public init?(argument: String) {
        if argument == "auto" {
            self = .auto
        } else if let count = Int(argument), count >= 1 {
            self = .documents(count)
        } else {
            return nil
        }
    }
}

/// `SITE:layer_L/width_W/average_l0_N`.
struct NamedSAE: ExpressibleByArgument {
    let site: Site
    let id: SAEIdentifier

    init?(argument: String) {
        let parts = argument.split(separator: ":", maxSplits: 1).map(String.init)
        guard parts.count == 2, let site = Site(rawValue: parts[0]),
            let id = SAEIdentifier(parts[1])
        else { return nil }
        (self.site, self.id) = (site, id)
    }
}
