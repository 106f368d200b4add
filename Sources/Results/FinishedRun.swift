// What run.json tells of a folder of results.

import ArrayFiles
import AuthorReceipts
import ByteJSON
import Files
import FoundationEssentials
import Glibc
import Hooks
import RunFiles

/// Why results cannot be read. Each names the file and the next step.
public enum ResultsError: Error, Equatable, CustomStringConvertible {
    /// The folder has no manifest.
    case noRun(directory: String)
    /// `run.json` is not a manifest, or lacks something.
    case badManifest(path: String, reason: String)
    /// The folder has results of several models and none was named, or another.
    case whichModel(directory: String, asked: String?, present: [String])
    /// A file of a run is not there.
    case missingFile(path: String)
    /// A file where the folder of a run is wanted.
    case noFolder(path: String)
    /// No author's files are complete yet.
    case nothingComplete(directory: String)
    /// A file is not what its name says.
    case badFile(path: String, reason: String)
    /// A link to `target` where a page would show what it leads to.
    case link(path: String, target: String)
    /// A file of a kind that is not looked at.
    case otherFile(path: String, kind: String?)
    /// Nothing of an author, a layer or a site that was asked for.
    case absent(what: String, present: [String], flag: String)

    /// What `error`, thrown by the reader of a file that a run wrote, is to say: such a file is made anew, not downloaded
    /// again.
    public static func ofResult(_ error: any Error) -> any Error {
        switch error {
        case let error as NPZError: ResultsError.badFile(path: error.path, reason: error.reason)
        case let error as UnexpectedFileError:
            error.ofResult
                ?? ResultsError.badFile(path: error.path, reason: "is \(error.kind.name)")
        default: error
        }
    }

    /// What is wrong, where, and the next step.
    public var description: String {
        switch self {
        case .noFolder(let path):
            "\(path): is a file; give the folder that a run wrote to (its --save_dir)"
        case .noRun(let directory):
            "\(directory): there is no run.json, so this is not a --save_dir of sae-extract (yet); give the folder that a run wrote to"
        case .badManifest(let path, let reason):
            "\(path): \(reason); it is not a manifest of sae-extract, or damaged: run the same command again to have it written anew"
        case .whichModel(let directory, let asked, let present):
            (asked.map { "\(directory) has no results of \($0)" }
                ?? "\(directory) has results of several models")
                + "; give --label with one of: \(present.joined(separator: ", "))"
        case .missingFile(let path):
            "\(path) is missing; run the same command again to have it made anew"
        case .nothingComplete(let directory):
            "\(directory): no author's files are complete yet; wait for the run, or run the same command again to continue it"
        case .badFile(let path, let reason):
            "\(path): \(reason); the file is damaged or was changed: remove it and run the same command again to have it made anew"
        case .link(let path, let target):
            "\(path): is a link to \(target): the page would show what that holds to everybody who may read the page; put the file itself in its place (cp -L, git annex unlock), and make the report again"
        case .otherFile(let path, let kind):
            "\(path): is \(kind.map { "\($0), and " } ?? "")none of .npz, .npy, .safetensors, run.json, and the JSON files of tokens and texts that a run writes; give one of these, or the folder that a run wrote to"
        case .absent(let what, let present, let flag):
            "\(what) is not there; give \(flag) one of: \(present.joined(separator: ", "))"
        }
    }
}

/// The results of one model in a folder: the union of what its invocations made.
public struct FinishedRun: Sendable {
    /// An author whose files are complete.
    public struct Author: Sendable {
        /// The name in the corpus.
        public let name: String
        /// Its place in the files' names.
        public let nameInFiles: String
        /// Output tokens of each document; the files have rows of zeros behind these.
        public let tokensPerRow: [Int]
        /// Documents that were cut to `max_seq_len`.
        public let truncatedRows: [Int]
        /// Mean over output tokens, nats.
        public let meanCrossEntropy: Double
        /// The same of the entropy.
        public let meanEntropy: Double
        /// Where its first document is in the corpus.
        let firstLine: Int
        /// The files made, and what they were when they were made; empty where the manifest names none.
        public internal(set) var files: [String: FileSeal]

        /// Output tokens over all documents.
        public var tokenCount: Int { tokensPerRow.reduce(0, +) }
    }

    /// A hook that was tapped, and its SAE.
    public struct TappedSAE: Sendable {
        /// Where.
        public let hook: HookPoint
        /// `layer_5/width_16k/average_l0_51`.
        public let name: String
        /// Features.
        public let width: Int
        /// Mean number of features on at a token, over the tokens of all invocations that tell.
        public internal(set) var meanL0: Double
        /// Tokens that it is the mean of.
        var countedTokens: Int
        /// Whether the newest invocation for it was for all authors, so that it is exact.
        var isOfAllAuthors = false
        /// Whether dense files were made.
        public internal(set) var hasDense: Bool
        /// Whether sparse ones were.
        public internal(set) var hasSparse: Bool

        /// The average L0 that the SAE was published with.
        public var publishedL0: Int? { SAEIdentifier(name)?.averageL0 }
    }

    /// The folder.
    public let directory: String
    /// The model's label, `google/gemma-2-2b`.
    public let label: String
    /// All models that the folder has results of.
    public let labels: [String]
    /// The newest invocation's entry.
    public let entry: JSONObject
    /// Authors in the corpus' order.
    public internal(set) var authors: [Author] = []
    /// Hooks by layer, then site.
    public internal(set) var saes: [TappedSAE] = []
    /// First dimension of all arrays.
    public let rows: Int
    /// Second dimension: `max_seq_len - 1`.
    public let columns: Int
    /// What a reader must know: what is not complete, or not reproducible.
    public internal(set) var notes: [String] = []
    /// Authors that a run is for, and that are not complete.
    public private(set) var incompleteAuthors: [String] = []
    /// Names of the files.
    public let naming: OutputNaming
    var isWhole = true

    /// Reads `directory/run.json`; `model` chooses among several labels. Throws `FileError` or `ResultsError`.
    public init(_ directory: String, model: String? = nil) throws {
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
        guard let shape = newest["shape"]?.object, let rows = shape["documents"]?.integer,
            let columns = shape["tokens"]?.integer
        else { throw bad("its newest run has no shape") }
        guard columns > 0, SizeLimits.allow(documents: rows, tokens: columns) else {
            throw bad(
                "the shape of its newest run, (\(rows), \(columns)), cannot be (\(SizeLimits.words))"
            )
        }
        (self.directory, self.label, self.labels, entry) = (directory, chosen, labels, newest)
        (self.rows, self.columns) = (rows, columns)
        naming = FinishedRun.naming(of: newest)
        var union = EntryUnion()
        for entry in entries { try add(entry, &union, bad) }
        leaveOutUnfinishedHooks(union)
        // Ranks tell of their own authors alone; the corpus' order is that of first documents.
        authors.sort { $0.firstLine < $1.firstLine }
        saes.sort {
            ($0.hook.layer, Site.allCases.firstIndex(of: $0.hook.site)!)
                < ($1.hook.layer, Site.allCases.firstIndex(of: $1.hook.site)!)
        }
        makeNotes(entries)
    }

    /// The model whose files' names begin with `start`; nil where there is none. Throws as `init` does.
    static func label(ofFilesBeginningWith start: String, in directory: String) throws -> String? {
        try entries(in: directory).last { naming(of: $0).start == start }.flatMap(label)
    }

    /// The names of the files that `entry` tells of. Versions that did not say so left the label as it was.
    private static func naming(of entry: JSONObject) -> OutputNaming {
        entry["model"]?.object?["name_in_files"]?.string.map { OutputNaming(labelName: $0) }
            ?? OutputNaming(earlierSpellingOf: label(entry) ?? "")
    }

    private static func label(_ entry: JSONObject) -> String? {
        entry["model"]?.object?["label"]?.string
    }

    private static func labels(of entries: [JSONObject]) -> [String] {
        entries.compactMap(label).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }

    /// All entries of the manifest.
    private static func entries(in directory: String) throws -> [JSONObject] {
        let path = directory + "/run.json"
        guard fileExists(path) else {
            guard !fileExists(directory) || isDirectory(directory) else {
                throw ResultsError.noFolder(path: directory)
            }
            // A folder that is not there says so itself.
            _ = try directoryContents(directory)
            throw ResultsError.noRun(directory: directory)
        }
        let manifest = try MappedFile(path: path).jsonObject(as: .result) {
            ResultsError.badManifest(path: path, reason: $0)
        }
        guard let runs = manifest["runs"]?.array?.compactMap(\.object) else {
            throw ResultsError.badManifest(path: path, reason: "has no list of runs")
        }
        return runs
    }

    /// The entries that belong to what is there now: those since the last that overwrote, with the newest's
    /// settings. A run that failed without any author may have been refused by what is there, and does not count.
    private static func current(_ entries: [JSONObject]) -> [JSONObject] {
        let first = entries.lastIndex { $0["overwrote"]?.bool == true } ?? 0
        let newest =
            entries[first...].last {
                $0["outcome"]?.string != "failed" || $0["authors"]?.array?.isEmpty == false
            } ?? entries.last!
        func decisive(_ entry: JSONObject) -> [JSONValue?] {
            let settings = entry["settings"]?.object ?? [:]
            // What may differ between invocations that add to each other, and does not decide the numbers.
            let ignored = ["layers", "layer_types", "storage_format"]
            return [
                .object(JSONObject(settings.members.filter { !ignored.contains($0.key) })),
                entry["corpus"]?.object?["accepted_sha256"], entry["dtype"], entry["device"],
                entry["shape"],
            ]
        }
        let same = entries[first...].filter { decisive($0) == decisive(newest) }
        // What is not even equal to itself (NaN) is taken alone.
        return same.isEmpty ? [newest] : same
    }

    private mutating func makeNotes(_ entries: [JSONObject]) {
        // Of ranks, each tells of its own.
        var seen = Set(authors.map { ExactString($0.name) })
        incompleteAuthors = entries.flatMap { $0["authors_not_complete"]?.array ?? [] }
            .compactMap(\.string).filter { seen.insert(ExactString($0)).inserted }
        let total = authors.count + incompleteAuthors.count
        let shown = "\(authors.count) of \(total) authors are complete, and shown"
        switch entry["outcome"]?.string {
        case "unfinished":
            let process = RunningProcess(entry: entry["process"]?.object)
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
                "ranks \(absent.map(String.init).joined(separator: ", ")) of \(entry["world_size"]?.integer ?? 0) have not run here; their authors are not known"
            )
        }
        if !incompleteAuthors.isEmpty {
            // There may be thousands.
            let more =
                incompleteAuthors.count > 10 ? " and \(incompleteAuthors.count - 10) more" : ""
            notes.append(
                "not complete, and not shown: \(incompleteAuthors.prefix(10).joined(separator: ", "))\(more)"
            )
        }
        if entries.contains(where: { $0["reproducible"]?.bool == false }) {
            notes.append(
                "memory ran out on a device and batches were divided: another run may differ in bits next to the threshold"
            )
        }
    }

    /// Ranks of the newest run's world that have no entry; none where the ranks of some world are all there.
    private func absentRanks(_ entries: [JSONObject]) -> [Int] {
        var ranks: [Int: Set<Int>] = [:]
        for entry in entries {
            guard let world = entry["world_size"]?.integer, (1...1_000_000).contains(world) else {
                continue
            }
            ranks[world, default: []].formUnion(
                (entry["ranks"]?.array ?? []).compactMap(\.integer))
        }
        guard let world = entry["world_size"]?.integer, let present = ranks[world],
            !ranks.contains(where: { $0.value.count == $0.key })
        else { return [] }
        return (0..<world).filter { !present.contains($0) }
    }

    /// The setting of that name.
    public func setting(_ name: String) -> JSONValue? { entry["settings"]?.object?[name] }

    /// Whether the files have activations instead of ones.
    public var hasRawValues: Bool { setting("activation_values")?.string == "raw" }

    /// A feature fires where its activation is above this.
    public var threshold: Double { setting("feature_threshold")?.number ?? 1 }

    /// Whether all authors of all ranks are complete.
    public var isComplete: Bool { isWhole && !authors.isEmpty }

    /// Fails where one of the run's files is a link: somebody else may have put it there, for another file of this user's to
    /// be shown. Throws `ResultsError` and `FileError`.
    public func checkForLinks() throws {
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

    /// Path of an author's activations: the sparse file where it is there, else the dense one.
    public func activationsPath(_ hook: HookPoint, of author: Author) -> String {
        let paths = [true, false].map {
            "\(directory)/" + naming.activations(hook, author: author.name, isSparse: $0)
        }
        return fileExists(paths[0]) ? paths[0] : paths[1]
    }

    /// The activations file at `path`, which is to have this run's shape and `sae`'s features. Throws as
    /// `ActivationsFile` does.
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

    /// Path of one of an author's other files.
    public func path(_ kind: OutputNaming.Kind, of author: Author) -> String {
        "\(directory)/" + naming.file(kind, author: author.name)
    }
}
