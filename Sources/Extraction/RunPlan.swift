// Options become a plan: everything checked that can be checked before the model runs.

import ArrayFiles
import ByteJSON
import Corpus
import Foundation
import Gemma2
import SparseAutoencoders

/// The SAE chosen for a hook.
public struct ChosenSAE: Codable, Sendable {
    /// Where it reads.
    public let hook: HookPoint
    /// Which it is.
    public let id: SAEIdentifier
    /// The folder it lies in.
    public let directory: String
}

/// A run that has been checked: what to read, what to compute, what to write.
public struct RunPlan: Codable, Sendable {
    /// The model's name in file names and logs.
    public let label: String
    /// The checkpoint's folder.
    public let modelDirectory: String
    /// One SAE for each hook, by layer and then site.
    public let saes: [ChosenSAE]
    /// The corpus file.
    public let dataPath: String
    /// How documents were selected.
    public let selection: Selection
    /// The accepted documents by author, in order of first acceptance. Workers get their own authors' with
    /// their shares instead.
    public private(set) var authors: [AuthorDocuments]
    /// Rows of every array: the largest number of documents that an author has (`D`).
    public let rows: Int
    /// Documents of a forward pass.
    public let batchSize: BatchSize
    /// Where results go.
    public let saveDirectory: String
    /// Tokens of a document, `<bos>` included.
    public let maximumLength: Int
    /// A feature fires above this.
    public let featureThreshold: Float
    /// Text put before each document.
    public let prefix: String
    /// Files to write.
    public let storageFormat: StorageFormat
    /// What is stored for a feature that fires.
    public let activationValues: ActivationValues
    /// Where this invocation stands among separately started ones.
    public let placement: RankPlacement
    /// Worker processes of this invocation; each is one rank.
    public let workers: Int
    /// Threads that each worker computes on.
    public let threads: Int
    /// The command line, for `run.json`.
    public let commandLine: [String]

    /// Columns of every array: `<bos>` is left out (`T`).
    public var columns: Int { maximumLength - 1 }
    /// The ranks of this invocation's workers, of `worldSize`.
    public var ranks: Range<Int> { placement.rank * workers..<(placement.rank + 1) * workers }
    /// Ranks in all.
    public var worldSize: Int { placement.worldSize * workers }

    /// The plan without its documents, as workers get it.
    func withoutAuthors() -> RunPlan {
        var plan = self
        plan.authors = []
        return plan
    }

    /// Checks what else only workers would find: the tokenizer, and the prefix's length. Throws the readers' errors
    /// and `UsageError`.
    public func checkTokenizer() throws { _ = try Tokenizing(self) }

    /// The models that go by a Hub id.
    public static let knownModels = ["google/gemma-2-2b", "google/gemma-2-9b"]

    /// Checks `options` against the checkpoint's configuration, the SAEs on disk and the corpus. Throws
    /// `UsageError` and the readers' errors.
    public init(_ options: RunOptions) throws {
        guard !options.saveDirectory.isEmpty else {
            throw UsageError("--save_dir", "is empty; give the folder for the results")
        }
        guard !options.selection.authorField.utf8.elementsEqual(options.selection.textField.utf8)
        else {
            throw UsageError("--text_field", "is the same as --author_field; give two keys")
        }
        let (label, directory) = try RunPlan.model(options)
        let config = try Gemma2Config(path: directory + "/config.json")
        try RunPlan.checkNumbers(options, config)
        self.label = label
        modelDirectory = directory
        saes = try RunPlan.chooseSAEs(options, label: label)
        guard let dataPath = options.dataPath else {
            throw UsageError(
                "--data_path",
                "is required: give a local AuthorMix file (JSONL or a JSON array; plain, gzip or zstd)"
            )
        }
        try RunPlan.checkReadableFile(dataPath, flag: "--data_path")
        self.dataPath = dataPath
        selection = options.selection
        authors = try Corpus.read(path: dataPath, options.selection)
        try RunPlan.checkNames(label: label, saes: saes, authors: authors)
        batchSize = options.batchSize
        saveDirectory = options.saveDirectory
        maximumLength = options.maximumLength
        featureThreshold = options.featureThreshold
        prefix = options.prefix
        storageFormat = options.storageFormat
        activationValues = options.activationValues
        rows = authors.map(\.documents.count).max() ?? 0
        placement = options.placement
        workers = options.workers
        threads = options.threads ?? RunPlan.threads(options)
        commandLine = options.commandLine
    }

    /// The cores that this invocation may use, divided among its workers. Where several invocations run on a
    /// machine and none is bound to cores of its own, they divide them too.
    private static func threads(_ options: RunOptions) -> Int {
        let info = ProcessInfo.processInfo
        let isBound = info.activeProcessorCount < info.processorCount
        let sharing = (isBound ? 1 : options.placement.localCount) * options.workers
        return max(1, info.activeProcessorCount / sharing)
    }

    // MARK: Checks

    private static func model(_ options: RunOptions) throws -> (label: String, directory: String) {
        if isDirectory(options.model) {
            let components = options.model.split(separator: "/").filter { $0 != "." }
            guard let last = components.last, last != ".." else {
                throw UsageError(
                    "--model",
                    "'\(options.model)' has no last path component to name the files by; give the folder by name"
                )
            }
            let directory = options.modelPath ?? options.model
            try checkFolder(directory, flag: "--model_path")
            return (String(last), directory)
        }
        guard knownModels.contains(where: { $0.utf8.elementsEqual(options.model.utf8) }) else {
            throw UsageError(
                "--model",
                "'\(options.model)' is not known; give \(knownModels.joined(separator: ", ")) or the folder of a Gemma-2 checkpoint"
            )
        }
        guard let directory = options.modelPath else {
            throw UsageError(
                "--model_path",
                "is required with --model \(options.model): give the folder of the downloaded checkpoint"
            )
        }
        try checkFolder(directory, flag: "--model_path")
        return (options.model, directory)
    }

    private static func checkNumbers(_ options: RunOptions, _ config: Gemma2Config) throws {
        guard !options.layers.isEmpty else {
            throw UsageError(
                "--layers", "is required: give the layers to tap, e.g. --layers 5 10 15")
        }
        for layer in options.layers where !(0..<config.nLayers).contains(layer) {
            throw UsageError(
                "--layers",
                "\(layer) is out of range: the model has \(config.nLayers) layers, 0 to \(config.nLayers - 1)"
            )
        }
        guard (2...config.nContext).contains(options.maximumLength) else {
            throw UsageError(
                "--max_seq_len",
                "\(options.maximumLength) is out of range: 2 to \(config.nContext), the model's max_position_embeddings"
            )
        }
    }

    /// File systems take names of at most 255 bytes; better to know before the model runs.
    private static func checkNames(
        label: String, saes: [ChosenSAE], authors: [AuthorDocuments]
    ) throws {
        let naming = OutputNaming(label: label)
        let names = authors.flatMap { author in
            saes.map { naming.activations($0.hook, author: author.author, isSparse: true) }
        }
        if let name = names.first(where: { $0.utf8.count > 255 }) {
            throw UsageError(
                "--model",
                "'\(label)' is too long a name: the file \(name) would have \(name.utf8.count) bytes, more than 255; rename the folder"
            )
        }
    }

    private static func chooseSAEs(_ options: RunOptions, label: String) throws -> [ChosenSAE] {
        guard let root = options.saeDirectory else {
            throw UsageError(
                "--sae_dir", "is required: give the folder of downloaded Gemma Scope SAEs")
        }
        try checkFolder(root, flag: "--sae_dir")
        let layers = Set(options.layers).sorted()
        for (site, id) in options.saeIDs {
            guard layers.contains(id.layer), options.sites.contains(site) else {
                throw UsageError(
                    "--sae_id",
                    "\(site.rawValue):\(id) is for a layer or site that is not asked for; add it to --layers and --layer_types or drop it"
                )
            }
            let same = options.saeIDs.filter { $0.site == site && $0.id.layer == id.layer }
            guard same.count == 1 else {
                throw UsageError(
                    "--sae_id",
                    "names \(same.count) SAEs for \(site.rawValue) at layer \(id.layer); give one")
            }
        }
        let tree = SAETree(directory: root, size: ScopeSize(label: label))
        let sites = Site.allCases.filter(options.sites.contains)
        return try layers.flatMap { layer in
            try sites.map { site in
                let named = options.saeIDs.first { $0.site == site && $0.id.layer == layer }?.id
                if let named { try tree.check(named, site: site.rawValue) }
                let id =
                    try named
                    ?? tree.nearest(
                        site: site.rawValue, layer: layer, width: options.saeFeatures,
                        target: options.targetL0)
                return ChosenSAE(
                    hook: HookPoint(layer: layer, site: site), id: id,
                    directory: "\(try tree.repository(site: site.rawValue))/\(id)")
            }
        }
    }

    private static func checkFolder(_ path: String, flag: String) throws {
        guard fileExists(path) else {
            throw UsageError(flag, "\(path) does not exist; check the path")
        }
        guard isDirectory(path) else {
            throw UsageError(flag, "\(path) is not a folder; give a folder")
        }
        do {
            _ = try directoryContents(path)
        } catch {
            throw UsageError(flag, "\(error)")
        }
    }

    private static func checkReadableFile(_ path: String, flag: String) throws {
        guard fileExists(path) else {
            throw UsageError(flag, "\(path) does not exist; check the path")
        }
        guard !isDirectory(path) else { throw UsageError(flag, "\(path) is a folder; give a file") }
        guard isReadable(path) else {
            throw UsageError(flag, "\(path) cannot be read; check its permissions")
        }
    }
}
