// Reads run.json, which describes the results of one or several models in a folder.

import ArrayFiles
import AuthorReceipts
import ByteJSON
import Files
import FoundationEssentials
import Glibc
import Hooks
import RunFiles

/// The reasons why results cannot be read. Each message names the file and the next step.
package enum ResultsError: Error, Equatable, CustomStringConvertible {
    /// The folder has no manifest (`run.json`).
    case noRun(directory: String)
    /// `run.json` is not a manifest, or a required part of it is missing or invalid.
    case badManifest(path: String, reason: String)
    /// The user must name one of the models in `present`. They named none, or they named `asked`, which has no
    /// results.
    case whichModel(directory: String, asked: String?, present: [String])
    /// A file of a run does not exist.
    case missingFile(path: String)
    /// The path is a file, but must be the folder of a run.
    case noFolder(path: String)
    /// No author's files are complete yet.
    case nothingComplete(directory: String)
    /// The content of a file is not as its name and `run.json` say.
    case badFile(path: String, reason: String)
    /// A result file is a link to `target`. A report would show the content of the target.
    case link(path: String, target: String)
    /// The program does not inspect files of this kind. `kind` is the recognized format; nil if it is unknown.
    case otherFile(path: String, kind: String?)
    /// The user asked for a document, array, tensor, hook or feature that does not exist. `present` lists the values
    /// that `flag` accepts.
    case absent(what: String, present: [String], flag: String)

    /// Converts an error that a reader has thrown for a file of a run. The reader advises to download the file again;
    /// the new message advises to run the command again. Returns other errors unchanged.
    package static func ofResult(_ error: any Error) -> any Error {
        switch error {
        case let error as NPZError: ResultsError.badFile(path: error.path, reason: error.reason)
        case let error as UnexpectedFileError:
            error.ofResult
                ?? ResultsError.badFile(path: error.path, reason: "is \(error.kind.name)")
        default: error
        }
    }

    /// The message: the file, what is wrong with it, and the next step.
    package var description: String {
        switch self {
        case .noFolder(let path):
            "\(path): is a file; give the folder that a run wrote to (its --save_dir)"
        case .noRun(let directory):
            "\(directory): there is no run.json, so this is not a --save_dir of sae-extract (yet); give the folder that a run wrote to"
        case .badManifest(let path, let reason):
            "\(path): \(reason); sae-extract has not written this file, or it is damaged: repeat the run's command to write the file again"
        case .whichModel(let directory, let asked, let present):
            (asked.map { "\(directory) has no results of \($0)" }
                ?? "\(directory) has results of several models")
                + "; give --label with one of: \(present.joined(separator: ", "))"
        case .missingFile(let path):
            "\(path) is missing; repeat the run's command to make it again"
        case .nothingComplete(let directory):
            "\(directory): no author's files are complete yet; wait for the run, or repeat the run's command to continue it"
        case .badFile(let path, let reason):
            "\(path): \(reason); the file or run.json is damaged or was changed: remove this file, and repeat the run's command to make the file again"
        case .link(let path, let target):
            "\(path): is a link to \(target): the page would show the content of that file to everybody who may read the page; replace the link by the file itself (cp -L, git annex unlock), and make the report again"
        case .otherFile(let path, let kind):
            "\(path): is \(kind.map { "\($0), and " } ?? "")not one of .npz, .npy, .safetensors, run.json, and the JSON files of tokens and texts that a run writes; give one of these, or the folder that a run wrote to"
        case .absent(let what, let present, let flag):
            "\(what) does not exist; give \(flag) one of: \(present.joined(separator: ", "))"
        }
    }
}

/// The results of one model in a folder: the union of the results of its invocations.
package struct FinishedRun: Sendable {
    /// An author whose files are complete.
    package struct Author: Sendable {
        /// The name in the corpus.
        package let name: String
        /// The author's name as encoded in file names.
        package let nameInFiles: String
        /// The number of output tokens of each document. In the files' arrays, zeros follow these tokens.
        package let tokensPerRow: [Int]
        /// Indices of the documents that were cut to `max_seq_len`.
        package let truncatedRows: [Int]
        /// Mean cross-entropy over output tokens, nats.
        package let meanCrossEntropy: Double
        /// Mean entropy over output tokens, nats.
        package let meanEntropy: Double
        /// The line of the corpus, from 1, on which the author's first document begins; 0 if unknown.
        let firstLine: Int
        /// By the name of the author's file: its size and CRC-32 when it was written. Empty if the manifest names no
        /// files.
        package internal(set) var files: [String: FileSeal]

        /// The number of output tokens of all documents.
        package var tokenCount: Int { tokensPerRow.reduce(0, +) }
    }

    /// A hook that was tapped, and its SAE.
    package struct TappedSAE: Sendable {
        /// The hook.
        package let hook: HookPoint
        /// The SAE's name, `layer_5/width_16k/average_l0_51`.
        package let name: String
        /// The number of features (d_sae).
        package let width: Int
        /// Mean L0 over `countedTokens` tokens.
        package internal(set) var meanL0: Double
        /// The number of tokens that `meanL0` is computed over.
        var countedTokens: Int
        /// Whether `meanL0` is over the tokens of all authors. True if it comes from an invocation with world size 1.
        var isOfAllAuthors = false
        /// Whether the run wrote dense files.
        package internal(set) var hasDense: Bool
        /// Whether the run wrote sparse files.
        package internal(set) var hasSparse: Bool

        /// The published average L0, from the SAE's name. Nil if the name has none.
        package var publishedL0: Int? { SAEIdentifier(name)?.averageL0 }
    }

    /// The path of the folder.
    package let directory: String
    /// The model's label, `google/gemma-2-2b`.
    package let label: String
    /// The labels of all models that have results in the folder.
    package let labels: [String]
    /// The newest invocation's entry in run.json.
    package let entry: JSONObject
    /// The authors whose files are complete, in the order of their first documents in the corpus.
    package internal(set) var authors: [Author] = []
    /// The tapped hooks with their SAEs, by layer, then site.
    package internal(set) var saes: [TappedSAE] = []
    /// The first dimension of the output arrays: the largest number of documents of an author.
    package let rows: Int
    /// The second dimension of the output arrays: `max_seq_len - 1`.
    package let columns: Int
    /// Notes for the user about results that are incomplete or not reproducible.
    package internal(set) var notes: [String] = []
    /// The names of the run's authors whose files are not complete.
    package private(set) var incompleteAuthors: [String] = []
    /// The naming of the output files.
    package let naming: OutputNaming
    /// Whether the results are complete. False if an author, a rank or a kind of files is missing.
    var isWhole = true

    /// Reads `directory/run.json`. `model` chooses one of several labels. Throws `FileError` or `ResultsError`.
    package init(_ directory: String, model: String? = nil) throws {
        let path = directory + "/run.json"
        func bad(_ reason: String) -> ResultsError { .badManifest(path: path, reason: reason) }
        let runs = try FinishedRun.entries(in: directory)
        let labels = FinishedRun.labels(of: runs)
        guard let chosen = model ?? (labels.count == 1 ? labels[0] : nil), labels.contains(chosen)
        else {
            guard !labels.isEmpty else { throw bad("has no runs") }
            throw ResultsError.whichModel(directory: directory, asked: model, present: labels)
        }
        let entries = FinishedRun.current(runs.filter { FinishedRun.label($0) == chosen })
        let newest = entries.last!
        guard let shape = newest[.shape]?.object, let rows = shape[.documents]?.integer,
            let columns = shape[.tokens]?.integer
        else { throw bad("its newest run has no shape") }
        guard columns > 0, SizeLimits.allow(documents: rows, tokens: columns) else {
            throw bad(
                "the shape of its newest run, (\(rows), \(columns)), is invalid (limits: \(SizeLimits.words))"
            )
        }
        (self.directory, self.label, self.labels, entry) = (directory, chosen, labels, newest)
        (self.rows, self.columns) = (rows, columns)
        naming = FinishedRun.naming(of: newest)
        var union = EntryUnion()
        for entry in entries { try add(entry, &union, bad) }
        leaveOutUnfinishedHooks(union)
        // Each entry lists only the authors of its own ranks. So the joined list must be sorted into the order of the
        // corpus.
        authors.sort { $0.firstLine < $1.firstLine }
        saes.sort {
            ($0.hook.layer, Site.allCases.firstIndex(of: $0.hook.site)!)
                < ($1.hook.layer, Site.allCases.firstIndex(of: $1.hook.site)!)
        }
        makeNotes(entries)
    }

    /// Returns the label of the model whose file names begin with `start`. Nil if run.json has no such model. Throws
    /// `FileError` or `ResultsError`.
    static func label(ofFilesBeginningWith start: String, in directory: String) throws -> String? {
        try entries(in: directory).last { naming(of: $0).start == start }.flatMap(label)
    }

    /// Returns the naming of the files of `entry`. Entries of older versions have no `name_in_files`. Their file
    /// names have the label with only its slashes replaced.
    private static func naming(of entry: JSONObject) -> OutputNaming {
        entry[.model]?.object?[.nameInFiles]?.string.map { OutputNaming(labelName: $0) }
            ?? OutputNaming(earlierSpellingOf: label(entry) ?? "")
    }

    private static func label(_ entry: JSONObject) -> String? {
        entry[.model]?.object?[.label]?.string
    }

    private static func labels(of entries: [JSONObject]) -> [String] {
        entries.compactMap(label).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }

    /// Returns all entries of the manifest in `directory`. Throws `FileError` or `ResultsError`.
    private static func entries(in directory: String) throws -> [JSONObject] {
        let path = directory + "/run.json"
        guard fileExists(path) else {
            guard !fileExists(directory) || isDirectory(directory) else {
                throw ResultsError.noFolder(path: directory)
            }
            // Throws `FileError` if the folder does not exist.
            _ = try directoryContents(directory)
            throw ResultsError.noRun(directory: directory)
        }
        let manifest = try MappedFile(path: path).jsonObject(as: .result) {
            ResultsError.badManifest(path: path, reason: $0)
        }
        guard let runs = manifest[.runs]?.array?.compactMap(\.object) else {
            throw ResultsError.badManifest(path: path, reason: "has no list of runs")
        }
        return runs
    }

    /// Returns the entries that describe the present files: those since the last `--overwrite` that have the
    /// configuration of the newest entry. A failed entry without authors does not count as newest. Its run may have
    /// been refused because the present results have another configuration.
    private static func current(_ entries: [JSONObject]) -> [JSONObject] {
        let first = entries.lastIndex { $0[.overwrote]?.bool == true } ?? 0
        let newest =
            entries[first...].last {
                $0[.outcome]?.string != "failed" || $0[.authors]?.array?.isEmpty == false
            } ?? entries.last!
        func decisive(_ entry: JSONObject) -> [JSONValue?] {
            let settings = entry[.settings]?.object ?? [:]
            // Invocations of one run may differ in these settings, which do not change any number.
            let ignored = [RunSetting.layers, .layerTypes, .storageFormat].map(\.rawValue)
            return [
                .object(JSONObject(settings.members.filter { !ignored.contains($0.key) })),
                entry[.corpus]?.object?[.acceptedSHA256], entry[.dtype], entry[.device],
                entry[.shape],
            ]
        }
        let same = entries[first...].filter { decisive($0) == decisive(newest) }
        // An entry with a NaN is not equal to itself, so `same` is empty. Then only the newest entry is returned.
        return same.isEmpty ? [newest] : same
    }

    private mutating func makeNotes(_ entries: [JSONObject]) {
        // Each entry lists only the incomplete authors of its own ranks, so all entries are read.
        var seen = Set(authors.map { ExactString($0.name) })
        incompleteAuthors = entries.flatMap { $0[.authorsNotComplete]?.array ?? [] }
            .compactMap(\.string).filter { seen.insert(ExactString($0)).inserted }
        let total = authors.count + incompleteAuthors.count
        let shown = "\(authors.count) of \(total) authors are complete, and shown"
        switch entry[.outcome]?.string {
        case "unfinished":
            let process = RunningProcess(entry: entry[.process]?.object)
            if let process, process.isHere {
                notes.append(
                    "the newest run is at work (process \(process.identifier)) and not complete: \(shown)"
                )
            } else {
                notes.append(
                    "the newest run has not ended, or was killed: \(shown); run the same command again to continue it"
                )
            }
        case "stopped":
            notes.append(
                "the newest run was stopped: \(shown); run the same command again to continue it")
        case "failed":
            notes.append(
                "in the newest run a worker failed: \(shown); run the same command again")
        default: break
        }
        let absent = absentRanks(entries)
        isWhole = isWhole && incompleteAuthors.isEmpty && absent.isEmpty
        if !absent.isEmpty {
            notes.append(
                "ranks \(absent.map(String.init).joined(separator: ", ")) of \(entry[.worldSize]?.integer ?? 0) have not run here; their authors are not known; run the command of these ranks"
            )
        }
        if !incompleteAuthors.isEmpty {
            // Names at most ten authors, because thousands may be incomplete.
            let more =
                incompleteAuthors.count > 10 ? " and \(incompleteAuthors.count - 10) more" : ""
            notes.append(
                "not complete, and not shown: \(incompleteAuthors.prefix(10).joined(separator: ", "))\(more)"
            )
        }
        if entries.contains(where: { $0[.reproducible]?.bool == false }) {
            notes.append(
                "memory ran out on a device and batches were divided: another run may differ where an activation is close to the threshold"
            )
        }
    }

    /// Returns the ranks that have no entry, among the ranks of the newest entry's world size. Returns none if all
    /// ranks of any one world size have entries, because these ranks cover all authors.
    private func absentRanks(_ entries: [JSONObject]) -> [Int] {
        var ranks: [Int: Set<Int>] = [:]
        for entry in entries {
            guard let world = entry[.worldSize]?.integer, (1...1_000_000).contains(world) else {
                continue
            }
            ranks[world, default: []].formUnion(
                (entry[.ranks]?.array ?? []).compactMap(\.integer))
        }
        guard let world = entry[.worldSize]?.integer, let present = ranks[world],
            !ranks.contains(where: { $0.value.count == $0.key })
        else { return [] }
        return (0..<world).filter { !present.contains($0) }
    }

    /// Returns the value of the setting `name` in the newest invocation. Nil if the invocation has no such setting.
    package func setting(_ name: RunSetting) -> JSONValue? { entry[.settings]?.object?[name] }

    /// Whether the files hold activations (`activation_values` is raw) instead of ones.
    package var hasRawValues: Bool { setting(.activationValues)?.string == "raw" }

    /// The threshold. A feature fires at a token if its activation is above the threshold.
    package var threshold: Double { setting(.featureThreshold)?.number ?? 1 }

    /// Whether the files of all authors of all ranks are complete, and at least one author exists.
    package var isComplete: Bool { isWhole && !authors.isEmpty }

    /// Throws `ResultsError.link` if one of the run's files is a link. Another user of a shared folder could make a
    /// link to a private file of the user who runs `report`, and the report would show its content. Throws
    /// `FileError` if the folder cannot be read.
    package func checkForLinks() throws {
        let folder = try Folder(directory)
        let names = saes.flatMap { sae in
            authors.flatMap { author in
                [false, true].map {
                    naming.activations(sae.hook, author: author.name, isSparse: $0)
                }
            }
        }
        for name in ["run.json"] + authors.flatMap(\.files.keys) + names {
            guard let info = try folder.status(of: name), info.st_mode & S_IFMT == S_IFLNK else {
                continue
            }
            let path = folder.path(of: name)
            throw ResultsError.link(path: path, target: linkTarget(path) ?? "another file")
        }
    }

    /// Returns the path of an author's activations at `hook`: the sparse file if it exists, otherwise the dense file.
    package func activationsPath(_ hook: HookPoint, of author: Author) -> String {
        let paths = [true, false].map {
            "\(directory)/" + naming.activations(hook, author: author.name, isSparse: $0)
        }
        return fileExists(paths[0]) ? paths[0] : paths[1]
    }

    /// Opens the activations file at `path`. Throws `ResultsError` unless the file has this run's shape and as many
    /// features as `sae`. Also throws the errors of `ActivationsFile.init`.
    func activations(_ path: String, _ sae: TappedSAE) throws -> ActivationsFile {
        let file = try ActivationsFile(path: path)
        guard file.documents == rows, file.positions == columns, file.features == sae.width else {
            throw ResultsError.badFile(
                path: path,
                reason:
                    "has shape (\(file.documents), \(file.positions), \(file.features)), expected (\(rows), \(columns), \(sae.width))"
            )
        }
        return file
    }

    /// Returns the path of an author's file of `kind`.
    package func path(_ kind: OutputNaming.Kind, of author: Author) -> String {
        "\(directory)/" + naming.file(kind, author: author.name)
    }
}
