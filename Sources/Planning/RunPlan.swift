// Options become a plan: everything checked that can be checked before the model runs.

import ByteJSON
import CUDA
import Corpus
import Files
import FoundationEssentials
import RunFiles
import RunState
import Tensors
import Threading
import Tokenization

/// A run that has been checked: what to read, what to compute, what to write.
public struct RunPlan: Codable, Sendable {
    /// Where its inputs lie.
    public let locations: InputLocations
    /// How documents were selected.
    public let selection: Selection
    /// The accepted documents by author, in order of first acceptance. Workers get their own authors' with
    /// their shares instead.
    public private(set) var authors: [AuthorDocuments]
    /// Rows of every array: the largest number of documents that an author has (`D`).
    public let rows: Int
    /// What limits a forward pass.
    public let batchLimit: BatchLimit
    /// The workers' devices, one each; none on the CPU.
    public let devices: [DeviceDescription]
    /// How faithful products are.
    public let precision: Precision
    /// Where results go.
    public let saveDirectory: String
    /// The names of its files.
    public let naming: OutputNaming
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
    /// What keeps them from being as many as the machine has cores.
    public let threadLimit: String?
    /// The command line, for `run.json`.
    public let commandLine: [String]
    /// What the corpus and the selection should be said of: a sentence each, for the parent's log.
    public private(set) var warnings: [String] = []

    /// The model's name in file names and logs.
    public var label: String { locations.label }
    /// One SAE for each hook, by layer and then site.
    public var saes: [ChosenSAE] { locations.saes }

    /// Columns of every array: `<bos>` is left out (`T`).
    public var columns: Int { maximumLength - TokenSequence.leadingCount }
    /// The ranks of this invocation's workers, of `worldSize`.
    public var ranks: Range<Int> { placement.rank * workers..<(placement.rank + 1) * workers }
    /// Ranks in all.
    public var worldSize: Int { placement.worldSize * workers }

    /// "2 threads", with `each` of several "2 threads each", and what limits them.
    package func threadsDescription(each: Bool = false) -> String {
        "\(counted(threads, "thread"))\(each ? " each" : "")"
            + (threadLimit.map { " (\($0))" } ?? "")
    }

    /// The plan without its documents, as workers get it.
    package func withoutAuthors() -> RunPlan {
        var plan = self
        (plan.authors, plan.warnings) = ([], [])
        return plan
    }

    /// Checks what else only workers would find: the tokenizer, and the prefix's length. Throws the readers' errors
    /// and `UsageError`.
    public func checkTokenizer() throws { _ = try Tokenizing(self) }

    /// "cuda" or "cpu": runs on one give other bits than runs on the other.
    public var deviceKind: String { devices.isEmpty ? "cpu" : "cuda" }

    /// Reads the corpus at `locations`, as `options` select of it, for workers on `devices` or, without, on the CPU.
    /// Results that are there already under an earlier spelling of the label are gone on with, unless the run
    /// `startsAnew` (`--overwrite`). Throws `UsageError` and the readers' errors.
    public init(
        _ options: RunOptions, at locations: InputLocations, devices: [DeviceDescription],
        startsAnew: Bool = false
    ) throws {
        self.locations = locations
        selection = options.selection
        let corpus = try Corpus.read(
            paths: locations.dataPaths, options.selection,
            window: locations.corpusOrigin == nil ? .any : .usual)
        authors = corpus.authors
        warnings =
            corpus.warnings
            + [ChatTemplate.warning(authors), ChatTemplate.warning(prefix: options.prefix)]
            .compactMap(\.self)
        naming = RunPlan.naming(options, locations, authors, startsAnew: startsAnew)
        try RunPlan.checkNames(locations, authors, naming)
        self.devices = devices
        precision = options.precision
        batchLimit = BatchLimit(options.batchSize, devices: devices)
        saveDirectory = options.saveDirectory
        maximumLength = options.maximumLength
        featureThreshold = options.featureThreshold
        prefix = options.prefix
        storageFormat = options.storageFormat
        activationValues = options.activationValues
        rows = authors.map(\.documents.count).max() ?? 0
        placement = options.placement
        workers = devices.isEmpty ? options.workers ?? 1 : devices.count
        // Where several invocations run on a machine and none is bound to cores of its own, they divide them too.
        let (cores, limit) = AvailableCores(environment: ProcessInfo.processInfo.environment)
            .share(of: placement.localCount)
        threads = options.threads ?? max(1, cores / workers)
        threadLimit = options.threads == nil ? limit?.rawValue : nil
        commandLine = options.commandLine
    }

    /// The spelling of the results that are in `--save_dir`, else today's.
    private static func naming(
        _ options: RunOptions, _ locations: InputLocations, _ authors: [AuthorDocuments],
        startsAnew: Bool
    ) -> OutputNaming {
        let label = locations.label
        let (naming, earlier) = (
            OutputNaming(label: label), OutputNaming(earlierSpellingOf: label)
        )
        let directory = options.saveDirectory
        guard naming != earlier, !startsAnew, !StateFolder.hasResults(of: naming, in: directory)
        else { return naming }
        func isThere() -> Bool {
            // Where only our own folders are spelt otherwise, files tell nothing.
            guard naming.labelName != earlier.labelName else { return false }
            let names = Set(
                ((try? directoryContents(directory)) ?? []).map(ExactString.init))
            let items = OutputItem.items(
                of: locations.saes.map(\.hook), in: options.storageFormat)
            return authors.contains { author in
                items.contains {
                    names.contains(ExactString($0.name(earlier, author: author.author)))
                }
            }
        }
        return StateFolder.hasResults(of: earlier, in: directory) || isThere() ? earlier : naming
    }

    /// File systems take names of at most 255 bytes; better to know before the model runs.
    private static func checkNames(
        _ locations: InputLocations, _ authors: [AuthorDocuments], _ naming: OutputNaming
    ) throws {
        let names = authors.flatMap { author in
            locations.saes.map {
                naming.activations($0.hook, author: author.author, isSparse: true)
            }
        }
        if let name = names.first(where: { $0.utf8.count > 255 }) {
            throw UsageError(
                "--model",
                "'\(locations.label)' is too long a name: the file \(name) would have \(name.utf8.count) bytes, more than 255; rename the folder"
            )
        }
    }
}

extension RunPlan {
    /// The files that each author gets.
    package var items: [OutputItem] { OutputItem.items(of: saes.map(\.hook), in: storageFormat) }

    /// What the state folder has to know of the run's files.
    public var files: PlannedFiles {
        PlannedFiles(
            saveDirectory: saveDirectory, label: label, naming: naming, hooks: saes.map(\.hook),
            format: storageFormat,
            authors: authors.map { .init(name: $0.author, documents: $0.documents.count) },
            columns: columns)
    }
}
