// `save_dir/.sae-extract` stores the state with which a later invocation continues a run. Locks are not needed: each
// process writes its own files, and the files that several processes can write appear whole.
//
//   runs/<time>-<id>.json                     an entry of run.json, one for each invocation (the time has no colons,
//                                             which Windows' file systems refuse; earlier versions wrote colons)
//   runs/<id>.partial                         an entry that is being written
//   claims/<label>                            the configuration of the run that began last
//   removed/<id>                              state that --overwrite is removing
//   models/<label>/<configuration>/           one folder for each model label and configuration
//     configuration.json                      the configuration as names and texts (ResumeSettings)
//     generation                              a random number; --overwrite makes a new one
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
package struct StateFolder: Codable, Sendable {
    /// The path of `save_dir`.
    package let saveDirectory: String
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
    /// What this process has read from the folder.
    package let known = Knowledge()

    private enum CodingKeys: CodingKey {
        case saveDirectory, naming, labelDirectory, directory, claimPath, settings, generation
    }

    /// What a process has read from a state folder. Receipts and the headers of journals never change, so each is
    /// read once.
    package final class Knowledge: Sendable {
        package let receipts = Receipts()
        let reader = ReceiptReader()
        let writer = Mutex<ReceiptWriter?>(nil)
        let expected = Mutex(ExpectedAuthors())
        /// By the journal's path: the SAEs of the journal, by the hook's name.
        let journals = Mutex<[String: [String: String]]>([:])
    }

    /// Creates the state of the run that makes `files` with `settings`. Does not access the file system.
    package init(_ files: PlannedFiles, _ settings: ResumeSettings) {
        saveDirectory = files.saveDirectory
        naming = files.naming
        labelDirectory = StateFolder.labelDirectory(naming, in: saveDirectory)
        claimPath = StateFolder.root(of: saveDirectory) / "claims" / naming.folderName
        directory = labelDirectory / settings.fingerprint
        self.settings = settings
        expect(Array(files.authors.enumerated()), columns: files.columns, areAll: true)
    }

    /// The path of the folder, relative to `saveDirectory`.
    package var relativePath: String {
        ".sae-extract/models/\(naming.folderName)/\(settings.fingerprint)"
    }

    /// Returns the folder of the label of `naming`.
    static func labelDirectory(_ naming: OutputNaming, in saveDirectory: String) -> GuardedPath {
        root(of: saveDirectory) / "models" / naming.folderName
    }

    /// Returns the folder `.sae-extract`. Other users who may write to `saveDirectory` can put symlinks into this
    /// folder, which `GuardedPath` does not follow.
    static func root(of saveDirectory: String) -> GuardedPath {
        GuardedPath(saveDirectory, ".sae-extract")
    }

    /// Returns the folder of the entries of `run.json`.
    package static func runs(of saveDirectory: String) -> GuardedPath {
        root(of: saveDirectory) / "runs"
    }

    private var configurationPath: GuardedPath { directory / "configuration.json" }

    // MARK: Opening

    /// Throws `ConfigurationConflict` if results of another configuration exist. Throws `FileError` if a folder
    /// cannot be read.
    package func check() throws {
        var differences: [String] = []
        for folder in try configurationFolders(in: labelDirectory) where folder != directory {
            // A run that failed before its first batch has left a folder without results.
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

    /// Returns one line for each SAE in `others` that differs from this configuration's SAE of the same hook.
    private func saeDifferences(from others: [String: Set<String>]) -> [String] {
        settings.saes.sorted { $0.key < $1.key }.flatMap { hook, ours in
            (others[hook] ?? []).filter { $0 != ours }.sorted().map {
                "SAE of \(hook): \($0) in the other run, \(ours) in this run"
            }
        }
    }

    private static func configuration(at place: GuardedPath) -> ResumeSettings? {
        // The program writes only a few kilobytes, so a file of more than 16 MiB is not read.
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

    /// Returns the SAEs in use, by the hook's name: the SAEs of all journals, and other SAEs with which existing
    /// files were made.
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

    /// Does the same as `check()`, before a run begins that makes `files`. If this configuration has no results yet,
    /// also refuses existing output files, because another configuration may have made them. Throws
    /// `ConfigurationConflict` or `FileError`.
    package func check(beginning files: PlannedFiles) throws {
        try check()
        guard try !hasResults() else { return }
        // A run can have thousands of files, and each test for a file is a call to the file system. The tests are
        // skipped if no name in the folder begins like that of an output file.
        guard
            try contents(of: saveDirectory).contains(where: {
                $0.lowercased().hasPrefix(OutputName.prefix)
            })
        else { return }
        let unknown = files.names.filter { fileExists("\(saveDirectory)/\($0)") }
        guard let first = unknown.first else { return }
        // Another rank may have written these files and its first results since the first check.
        guard try !hasResults() else { return }
        let others = unknown.count > 1 ? " and \(unknown.count - 1) more of this run's files" : ""
        throw ConfigurationConflict(
            saveDirectory: saveDirectory,
            differences: [
                "\(first)\(others): present, but nothing in .sae-extract says how they were made"
            ])
    }

    /// Creates the folder, and writes this configuration into the claim of the label. The caller must call `check`
    /// first. Throws `ConfigurationConflict` or `FileError`.
    package mutating func open() throws {
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
            // The run that had the claim before may have written its first results meanwhile.
            try check()
        } catch {
            if StateFolder.configuration(at: claimPath) == settings {
                try claimPath.remove()
            }
            throw error
        }
    }

    /// Throws `ConfigurationConflict` if results of another configuration exist, or if the label's claim has another
    /// configuration. If two runs begin without results, the later claim counts, and the other run ends. So a process
    /// calls this function before and after it writes its first results. Throws `FileError`.
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

    /// Writes a file with `body` in this folder, then renames it to `place`. Throws `StateRemovedError` if
    /// `--overwrite` has removed the folder since the run began. A file that was begun before the removal fails at
    /// the rename. A file that is begun in a new folder at the same path fails because `generation` differs. Throws
    /// `FileError` and the errors of `body`.
    package func makeFile(
        _ place: GuardedPath, _ body: (OutputFile) throws -> Void
    ) throws -> FileSeal {
        try OutputFile.make(place, begunIn: directory) { try fill($0, body) }
    }

    /// Does the same as `makeFile`. Returns a descriptor that is open for writing at the end of the file.
    func makeFileKeepingOpen(
        _ place: GuardedPath, _ body: (OutputFile) throws -> Void
    ) throws -> Int32 {
        try OutputFile.makeKeepingOpen(place, begunIn: directory) { try fill($0, body) }
    }

    private func fill(_ file: OutputFile, _ body: (OutputFile) throws -> Void) throws {
        guard isInPlace else { throw StateRemovedError(path: directory.path) }
        try body(file)
    }

    /// Whether the folder is still the one in which this run began. False after `--overwrite` has removed the folder.
    package var isInPlace: Bool { presentGeneration == generation }
}
