// `save_dir/.sae-extract`: what lets a run go on where another ended. Every file in it is written by one process,
// under a name that no other has, and never changed by another; so nothing depends on locks.
//
//   runs/<time>-<id>.json                     an entry of run.json, one for each invocation (the time without colons,
//                                             which Windows' file systems refuse; before, there were some)
//   runs/<id>.partial                         one being written
//   claims/<label>                            the configuration of the run that began last
//   removed/<id>                              what --overwrite is removing
//   models/<label>/<configuration>/           one folder for each model label and configuration
//     configuration.json                      the configuration in words
//     generation                              a random number: another one once --overwrite has made the folder anew
//     <time>-<host>-<process>-<id>.journal    finished batches of one process
//     <time>-<host>-<process>-<id>.receipts   files that one process has completed, with their checksums
//     <id>.receipt                            the same of one author, as versions before this one wrote it
//     <id>.partial                            a file being written

import AuthorReceipts
import ByteJSON
import Files
import FoundationEssentials
import Glibc
import RunFiles
import Synchronization

/// One model label's state under one configuration.
public struct StateFolder: Codable, Sendable {
    /// Where results go.
    public let saveDirectory: String
    /// The names of its files.
    let naming: OutputNaming
    /// The folder of the model label.
    let labelDirectory: GuardedPath
    /// The folder of the configuration.
    package let directory: GuardedPath
    private let claimPath: GuardedPath
    package let settings: ResumeSettings
    /// The folder's random number when this run began.
    private var generation = ""
    /// What this process knows of the folder.
    package let known = Knowledge()

    private enum CodingKeys: CodingKey {
        case saveDirectory, naming, labelDirectory, directory, claimPath, settings, generation
    }

    /// What has been read of a state folder, which is read again only as far as it is new: receipts never change, nor do
    /// heads of journals.
    package final class Knowledge: Sendable {
        package let receipts = Receipts()
        let reader = ReceiptReader()
        let writer = Mutex<ReceiptWriter?>(nil)
        let expected = Mutex(ExpectedAuthors())
        /// The SAEs of each journal, by path.
        let journals = Mutex<[String: [String: String]]>([:])
    }

    /// The state of the run that makes `files` under `settings`. Reads nothing.
    public init(_ files: PlannedFiles, _ settings: ResumeSettings) {
        saveDirectory = files.saveDirectory
        naming = files.naming
        labelDirectory = StateFolder.labelDirectory(naming, in: saveDirectory)
        claimPath = StateFolder.root(of: saveDirectory) / "claims" / naming.folderName
        directory = labelDirectory / settings.fingerprint
        self.settings = settings
        expect(Array(files.authors.enumerated()), columns: files.columns, areAll: true)
    }

    /// The folder, as a path within `saveDirectory`.
    package var relativePath: String {
        ".sae-extract/models/\(naming.folderName)/\(settings.fingerprint)"
    }

    /// The folder of the label that `naming` is for.
    static func labelDirectory(_ naming: OutputNaming, in saveDirectory: String) -> GuardedPath {
        root(of: saveDirectory) / "models" / naming.folderName
    }

    /// Our own files' folder in `saveDirectory`. Whoever may write to that may put links there.
    static func root(of saveDirectory: String) -> GuardedPath {
        GuardedPath(saveDirectory, ".sae-extract")
    }

    /// The folder of `run.json`'s entries.
    package static func runs(of saveDirectory: String) -> GuardedPath { root(of: saveDirectory) / "runs" }

    private var configurationPath: GuardedPath { directory / "configuration.json" }

    // MARK: Opening

    /// Fails where results of another configuration are there. Throws `ConfigurationConflict` or `FileError`.
    public func check() throws {
        var differences: [String] = []
        for folder in try configurationFolders(in: labelDirectory) where folder != directory {
            // A run that failed before its first batch holds nothing.
            guard try folder.names().contains(where: StateFolder.isResult) else { continue }
            guard let theirs = StateFolder.configuration(at: folder / "configuration.json") else {
                differences.append(
                    "\(folder): has results, but no configuration.json that can be read")
                continue
            }
            differences += settings.differences(from: theirs)
        }
        differences += saeDifferences(from: try saesInUse())
        guard differences.isEmpty else {
            throw ConfigurationConflict(saveDirectory: saveDirectory, differences: differences)
        }
    }

    /// Hooks of this configuration that `others` have another SAE for, a line each.
    private func saeDifferences(from others: [String: Set<String>]) -> [String] {
        settings.saes.sorted { $0.key < $1.key }.flatMap { hook, ours in
            (others[hook] ?? []).filter { $0 != ours }.sorted().map {
                "SAE of \(hook): \($0) there, \(ours) here"
            }
        }
    }

    private static func configuration(at place: GuardedPath) -> ResumeSettings? {
        // Ours have a few kilobytes.
        guard let file = try? MappedFile(place), file.bytes.count <= 1 << 24 else { return nil }
        return try? JSONDecoder().decode(
            ResumeSettings.self, from: file.withBytes { Data($0) })
    }

    /// The folders of a label's configurations.
    func configurationFolders(in labelDirectory: GuardedPath) throws -> [GuardedPath] {
        try labelDirectory.names().map { labelDirectory / $0 }.filter {
            try $0.status().map { $0.st_mode & S_IFMT == S_IFDIR } ?? false
        }
    }

    /// The SAEs of journals and of files that are there, by hook; of files made with this configuration's own, none.
    private func saesInUse() throws -> [String: Set<String>] {
        var used: [String: Set<String>] = [:]
        for place in try places(".journal") {
            let saes = try known.journals.withLock { journals in
                if let saes = journals[place.path] { return saes }
                let saes = try JournalReader(place)?.header?.saes
                journals[place.path] = saes
                return saes ?? [:]
            }
            for (hook, sae) in saes { used[hook, default: []].insert(sae) }
        }
        for other in try completed().foreign
        where other.names.contains(where: { fileExists("\(saveDirectory)/\($0)") }) {
            used[other.hook, default: []].insert(other.sae)
        }
        return used
    }

    /// The same, before the run that makes `files` begins: files of its names that are there without a record of their making are another
    /// configuration's too, for all that is known. Throws `ConfigurationConflict` or `FileError`.
    public func check(beginning files: PlannedFiles) throws {
        try check()
        guard try !hasResults() else { return }
        // Of thousands of names each would be a question to the file system: not where it has none like them.
        guard
            try contents(of: saveDirectory).contains(where: { $0.lowercased().hasPrefix("sae__") })
        else { return }
        let unknown = files.names.filter { fileExists("\(saveDirectory)/\($0)") }
        guard let first = unknown.first else { return }
        // Another rank may have begun since the first look.
        guard try !hasResults() else { return }
        let others = unknown.count > 1 ? " and \(unknown.count - 1) more of this run's files" : ""
        throw ConfigurationConflict(
            saveDirectory: saveDirectory,
            differences: [
                "\(first)\(others): there, but nothing in .sae-extract says how they were made"
            ])
    }

    /// Makes the folder, after `check`, and claims the label for this configuration. Throws
    /// `ConfigurationConflict` or `FileError`.
    public mutating func open() throws {
        try directory.makeFolder()
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let text = Array(try encoder.encode(settings))
        let number = uniqueName()
        for (place, content) in [(configurationPath, text), (generationPath, Array(number.utf8))]
        where !place.exists {
            let file = try OutputFile(place, begunIn: directory)
            try file.write(content)
            _ = try file.commitIfAbsent()
        }
        generation = presentGeneration ?? ""
        guard StateFolder.configuration(at: claimPath) != settings else { return }
        let runs = StateFolder.runs(of: saveDirectory)
        try runs.makeFolder()
        try claimPath.parent.makeFolder()
        try OutputFile.make(claimPath, begunIn: runs) { try $0.write(text) }
        do {
            // Whoever had the claim may have had its first results meanwhile.
            try check()
        } catch {
            if StateFolder.configuration(at: claimPath) == settings {
                try claimPath.remove()
            }
            throw error
        }
    }

    /// Fails where results are there that do not go with this run's, or a run that does not has begun since this one did:
    /// of two that began with nothing there, the later one goes on. To be called before and after a process puts its
    /// first results here. Throws `ConfigurationConflict` or `FileError`.
    package func checkClaim() throws {
        if let theirs = StateFolder.configuration(at: claimPath) {
            let differences =
                settings.differences(from: theirs)
                + saeDifferences(from: theirs.saes.mapValues { [$0] })
            guard differences.isEmpty else {
                throw ConfigurationConflict(
                    saveDirectory: saveDirectory, differences: differences, isAtWork: true)
            }
        }
        try check()
    }

    private var generationPath: GuardedPath { directory / "generation" }

    private var presentGeneration: String? {
        guard let file = try? MappedFile(generationPath), file.bytes.count <= 64 else { return nil }
        return file.withBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// Makes the file at `place` of what `body` writes, begun in this folder. Fails where `--overwrite` has removed the
    /// folder since this run began, even if it is there again: a file begun in the old folder cannot be put in its place,
    /// and one begun in the new is noticed here. Throws `StateRemovedError`, `FileError` and what `body` throws.
    package func makeFile(
        _ place: GuardedPath, _ body: (OutputFile) throws -> Void
    ) throws -> FileSeal {
        try OutputFile.make(place, begunIn: directory) { try fill($0, body) }
    }

    /// The same, and a descriptor with which writing goes on at the file's end.
    func makeFileKeepingOpen(
        _ place: GuardedPath, _ body: (OutputFile) throws -> Void
    ) throws -> Int32 {
        try OutputFile.makeKeepingOpen(place, begunIn: directory) { try fill($0, body) }
    }

    private func fill(_ file: OutputFile, _ body: (OutputFile) throws -> Void) throws {
        guard isInPlace else { throw StateRemovedError(path: directory.path) }
        try body(file)
    }

    /// Whether the folder is the one that this run began in: `--overwrite` has not removed it since.
    public var isInPlace: Bool { presentGeneration == generation }
}
