// Converts options to a plan. Every check that is possible before the model runs is made in this file or earlier.

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

/// A checked run: the inputs to read, the numbers to compute and the files to write.
package struct RunPlan: Codable, Sendable {
    /// The paths of the inputs.
    package let locations: InputLocations
    /// The flags that select documents.
    package let selection: Selection
    /// The authors with their accepted documents, in the order of their first accepted documents. Empty in a worker,
    /// whose task has the documents.
    package private(set) var authors: [AuthorDocuments]
    /// The first dimension of the output arrays: the largest number of documents of an author.
    package let rows: Int
    /// The limit on the size of a batch.
    package let batchLimit: BatchLimit
    /// The device of each worker; empty on the CPU.
    package let devices: [DeviceDescription]
    /// The precision of matrix products.
    package let precision: Precision
    /// The path of `--save_dir`.
    package let saveDirectory: String
    /// The names of the output files.
    package let naming: OutputNaming
    /// The largest number of tokens of a document, `<bos>` included.
    package let maximumLength: Int
    /// A feature fires if its activation is greater than this number.
    package let featureThreshold: Float
    /// The text before each document.
    package let prefix: String
    /// The layout of activations on disk.
    package let storageFormat: StorageFormat
    /// The value that is stored for a feature that fires.
    package let activationValues: ActivationValues
    /// The rank of this invocation among the invocations that share the work.
    package let placement: RankPlacement
    /// The number of workers of this invocation. Each worker is one rank.
    package let workers: Int
    /// The number of threads of each worker.
    package let threads: Int
    /// The name of the limit that reduces the number of threads, such as "cgroup quota". Nil without such a limit, or
    /// with `--threads`.
    package let threadLimit: String?
    /// The command line, for `run.json`.
    package let commandLine: [String]
    /// Warnings about the corpus and its selection for the parent's log, one sentence each.
    package private(set) var warnings: [String] = []

    /// The model's name in file names and logs.
    package var label: String { locations.label }
    /// One SAE for each hook, ordered by layer and then site.
    package var saes: [ChosenSAE] { locations.saes }

    /// The second dimension of the output arrays: the largest number of tokens of a document, without `<bos>`.
    package var columns: Int { maximumLength - TokenSequence.leadingCount }
    /// The ranks of this invocation's workers, among all ranks from 0 to `worldSize` - 1.
    package var ranks: Range<Int> { placement.rank * workers..<(placement.rank + 1) * workers }
    /// The number of ranks of all invocations.
    package var worldSize: Int { placement.worldSize * workers }

    /// Returns the number of threads and the name of their limit, such as "2 threads (cgroup quota)". If `each` is
    /// true, the text begins with "2 threads each".
    package func threadsDescription(each: Bool = false) -> String {
        "\(counted(threads, "thread"))\(each ? " each" : "")"
            + (threadLimit.map { " (\($0))" } ?? "")
    }

    /// Returns the plan without documents and warnings. The parent sends this form to the workers.
    package func withoutAuthors() -> RunPlan {
        var plan = self
        (plan.authors, plan.warnings) = ([], [])
        return plan
    }

    /// Checks the tokenizer and the length of the prefix, so that the parent finds problems before it starts workers.
    /// Throws the readers' errors and `UsageError`.
    package func checkTokenizer() throws { _ = try Tokenizing(self) }

    /// The kind of device, "cuda" or "cpu". Results of the two kinds differ in their last bits.
    package var deviceKind: String { devices.isEmpty ? "cpu" : "cuda" }

    /// Makes the plan for `options` and the inputs at `locations`, and reads the selected documents. `devices` are
    /// the workers' devices; empty on the CPU. If `startsAnew` (`--overwrite`) is false, results under an earlier
    /// spelling of the label are continued under that spelling. Throws `UsageError` and the readers' errors.
    package init(
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
        // The invocations on one machine share its cores, unless each invocation is bound to its own cores.
        let (cores, limit) = AvailableCores(environment: ProcessInfo.processInfo.environment)
            .share(of: placement.localCount)
        threads = options.threads ?? max(1, cores / workers)
        threadLimit = options.threads == nil ? limit?.rawValue : nil
        commandLine = options.commandLine
    }

    /// Returns the naming of the output files. It has an earlier spelling of the label if `--save_dir` has results
    /// only under that spelling, and `startsAnew` is false.
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
            // If the spellings differ only in folder names, file names do not show the spelling that was used.
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

    /// Throws `UsageError` if a file name has more than 255 bytes, which file systems refuse.
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
                "'\(locations.label)' is too long a name: the file name \(name) would have \(name.utf8.count) bytes, but file systems allow 255; rename the folder"
            )
        }
    }
}

extension RunPlan {
    /// The output files of each author.
    package var items: [OutputItem] { OutputItem.items(of: saes.map(\.hook), in: storageFormat) }

    /// The description of the output files for the state folder.
    package var files: PlannedFiles {
        PlannedFiles(
            saveDirectory: saveDirectory, label: label, naming: naming, hooks: saes.map(\.hook),
            format: storageFormat,
            authors: authors.map { .init(name: $0.author, documents: $0.documents.count) },
            columns: columns)
    }
}
