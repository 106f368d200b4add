// `save_dir/.sae-extract` stores the state with which a run continues where another ended. Each file in it is written by one
// process, under a name that no other process uses, and no other process changes it. No locks are needed.
//
//   runs/<time>-<id>.json                     an entry of run.json, one for each invocation (the time has no colons, because
//                                             Windows' file systems refuse them; earlier versions wrote colons)
//   runs/<id>.partial                         an entry that is being written
//   claims/<label>                            the configuration of the run that began last
//   removed/<id>                              state that --overwrite is removing
//   models/<label>/<configuration>/           one folder for each model label and configuration
//     configuration.json                      the configuration as names and texts (ResumeSettings)
//     generation                              a random number, which is new when --overwrite has made the folder again
//     <time>-<host>-<process>-<id>.journal    finished batches of one process
//     <time>-<host>-<process>-<id>.receipts   files that one process has completed, with their checksums
//     <id>.receipt                            the same for one author, as earlier versions wrote it
//     <id>.partial                            a file that is being written

import AuthorReceipts
import Files
import FoundationEssentials
import Glibc
import RunFiles
import Synchronization

/// The state of one model label and one configuration.
public struct StateFolder: Codable, Sendable {
    /// The path of `save_dir`.
    public let saveDirectory: String
    /// The names of the output files.
    let naming: OutputNaming
    /// The folder of the model label.
    let labelDirectory: GuardedPath
    /// The folder of the configuration.
    package let directory: GuardedPath
    private let claimPath: GuardedPath
    package let settings: ResumeSettings
    /// The content of `generation` when this run began; empty before `open`.
    private var generation = ""
    /// The content of the folder that this process has read.
    package let known = Knowledge()

    private enum CodingKeys: CodingKey {
        case saveDirectory, naming, labelDirectory, directory, claimPath, settings, generation
    }

    /// The content of a state folder that a process has read. Receipts and headers of journals never change, so only new ones are
    /// read.
    package final class Knowledge: Sendable {
        package let receipts = Receipts()
        let reader = ReceiptReader()
        let writer = Mutex<ReceiptWriter?>(nil)
        let expected = Mutex(ExpectedAuthors())
        /// The SAEs of each journal, by path.
        let journals = Mutex<[String: [String: String]]>([:])
    }

    /// Creates the state of the run that makes `files` with `settings`. Reads and writes nothing.
    public init(_ files: PlannedFiles, _ settings: ResumeSettings) {
        saveDirectory = files.saveDirectory
        naming = files.naming
        labelDirectory = StateFolder.labelDirectory(naming, in: saveDirectory)
        claimPath = StateFolder.root(of: saveDirectory) / "claims" / naming.folderName
        directory = labelDirectory / settings.fingerprint
        self.settings = settings
        expect(Array(files.authors.enumerated()), columns: files.columns, areAll: true)
    }

    /// The path of the folder within `saveDirectory`.
    package var relativePath: String {
        ".sae-extract/models/\(naming.folderName)/\(settings.fingerprint)"
    }

    /// Returns the folder of the label of `naming`.
    static func labelDirectory(_ naming: OutputNaming, in saveDirectory: String) -> GuardedPath {
        root(of: saveDirectory) / "models" / naming.folderName
    }

    /// Returns the folder `.sae-extract`. Everybody who may write to `saveDirectory` can put links there; `GuardedPath` does not
    /// follow them.
    static func root(of saveDirectory: String) -> GuardedPath {
        GuardedPath(saveDirectory, ".sae-extract")
    }

    /// Returns the folder of the entries of `run.json`.
    package static func runs(of saveDirectory: String) -> GuardedPath {
        root(of: saveDirectory) / "runs"
    }

    private var configurationPath: GuardedPath { directory / "configuration.json" }

    // MARK: Opening

    /// Throws `ConfigurationConflict` if results of another configuration exist. Throws `FileError`.
    public func check() throws {
        var differences: [String] = []
        for folder in try configurationFolders(in: labelDirectory) where folder != directory {
            // A run that failed before its first batch has left no results.
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

    /// Returns the hooks of this configuration for which `others` has another SAE, one line each.
    private func saeDifferences(from others: [String: Set<String>]) -> [String] {
        settings.saes.sorted { $0.key < $1.key }.flatMap { hook, ours in
            (others[hook] ?? []).filter { $0 != ours }.sorted().map {
                "SAE of \(hook): \($0) there, \(ours) here"
            }
        }
    }

    private static func configuration(at place: GuardedPath) -> ResumeSettings? {
        // The program writes a few kilobytes.
        guard let file = try? MappedFile(place), file.bytes.count <= 1 << 24 else { return nil }
        return try? JSONDecoder().decode(
            ResumeSettings.self, from: file.withBytes { Data($0) })
    }

    /// Returns the folders of a label's configurations.
    func configurationFolders(in labelDirectory: GuardedPath) throws -> [GuardedPath] {
        try labelDirectory.names().map { labelDirectory / $0 }.filter {
            try $0.status().map { $0.st_mode & S_IFMT == S_IFDIR } ?? false
        }
    }

    /// Returns the SAEs that journals, and existing files of other SAEs, were made with, by the hook's name.
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

    /// Does `check()` before the run that makes `files` begins. Output files that exist without any record of how they were made
    /// can be of another configuration, and are refused too. Throws `ConfigurationConflict` or `FileError`.
    public func check(beginning files: PlannedFiles) throws {
        try check()
        guard try !hasResults() else { return }
        // A run can have thousands of names, and each costs a call to the file system. Skip them if no name looks like ours.
        guard
            try contents(of: saveDirectory).contains(where: {
                $0.lowercased().hasPrefix(OutputName.prefix)
            })
        else { return }
        let unknown = files.names.filter { fileExists("\(saveDirectory)/\($0)") }
        guard let first = unknown.first else { return }
        // Another rank may have begun since the first check.
        guard try !hasResults() else { return }
        let others = unknown.count > 1 ? " and \(unknown.count - 1) more of this run's files" : ""
        throw ConfigurationConflict(
            saveDirectory: saveDirectory,
            differences: [
                "\(first)\(others): present, but nothing in .sae-extract says how they were made"
            ])
    }

    /// Creates the folder and claims the label for this configuration. The caller calls `check` first. Throws
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
            // The run that had the claim may have written its first results meanwhile.
            try check()
        } catch {
            if StateFolder.configuration(at: claimPath) == settings {
                try claimPath.remove()
            }
            throw error
        }
    }

    /// Throws `ConfigurationConflict` if results of another configuration exist, or if a run of another configuration has claimed
    /// the label: of two runs that began without results, the later one continues. A process calls this before and after it
    /// writes its first results. Throws `FileError`.
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

    /// Writes a file with `body` in this folder, then renames it to `place`. Throws `StateRemovedError` if `--overwrite` has
    /// removed the folder since the run began, even if the folder exists again: a file that was begun in the old folder fails at
    /// the rename, and one that is begun in the new folder fails at the check of `generation`. Throws `FileError` and the errors
    /// of `body`.
    package func makeFile(
        _ place: GuardedPath, _ body: (OutputFile) throws -> Void
    ) throws -> FileSeal {
        try OutputFile.make(place, begunIn: directory) { try fill($0, body) }
    }

    /// Does `makeFile` and returns a descriptor that is open for writing at the file's end.
    func makeFileKeepingOpen(
        _ place: GuardedPath, _ body: (OutputFile) throws -> Void
    ) throws -> Int32 {
        try OutputFile.makeKeepingOpen(place, begunIn: directory) { try fill($0, body) }
    }

    private func fill(_ file: OutputFile, _ body: (OutputFile) throws -> Void) throws {
        guard isInPlace else { throw StateRemovedError(path: directory.path) }
        try body(file)
    }

    /// Whether the folder is still the one in which this run began. False if `--overwrite` has removed it since.
    public var isInPlace: Bool { presentGeneration == generation }
}
