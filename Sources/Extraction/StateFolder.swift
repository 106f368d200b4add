// `save_dir/.sae-extract`: what lets a run go on where another ended. Every file in it is written by one process,
// under a name that no other has, and never changed by another; so nothing depends on locks.
//
//   runs/<time>-<id>.json                     an entry of run.json, one for each invocation
//   runs/<id>.partial                         one being written
//   claims/<label>                            the configuration of the run that began last
//   removed/<id>                              what --overwrite is removing
//   models/<label>/<configuration>/           one folder for each model label and configuration
//     configuration.json                      the configuration in words
//     generation                              a random number: another one once --overwrite has made the folder anew
//     <time>-<host>-<process>-<id>.journal    finished batches of one process
//     <id>.receipt                            files that are complete, with their checksums
//     <id>.partial                            a file being written

import ArrayFiles
import Corpus
import FoundationEssentials
import Gemma2
import Glibc

/// One model label's state under one configuration.
public struct StateFolder: Codable, Sendable {
    /// Where results go.
    public let saveDirectory: String
    /// The model label as in file names.
    private let labelName: String
    /// The folder of the model label.
    let labelDirectory: String
    /// The folder of the configuration.
    let directory: String
    private let claimPath: String
    let configuration: Configuration
    /// The folder's random number when this run began.
    private var generation = ""

    /// The state of `plan`'s model label under `configuration`. Nothing is looked at yet.
    public init(_ plan: RunPlan, _ configuration: Configuration) {
        saveDirectory = plan.saveDirectory
        let root = StateFolder.root(of: plan.saveDirectory)
        labelName = OutputNaming(label: plan.label).labelName
        labelDirectory = "\(root)/models/\(labelName)"
        claimPath = "\(root)/claims/\(labelName)"
        directory = "\(labelDirectory)/\(configuration.fingerprint)"
        self.configuration = configuration
    }

    /// Our own files' folder in `saveDirectory`.
    static func root(of saveDirectory: String) -> String { saveDirectory + "/.sae-extract" }

    /// The folder of `run.json`'s entries.
    static func runs(of saveDirectory: String) -> String { root(of: saveDirectory) + "/runs" }

    private var configurationPath: String { directory + "/configuration.json" }

    // MARK: Opening

    /// Fails where results of another configuration are there. Throws `ConfigurationConflict` or `FileError`.
    public func check() throws {
        var differences: [String] = []
        for folder in try configurationFolders() where folder != directory {
            // A run that failed before its first batch holds nothing.
            guard try contents(of: folder).contains(where: StateFolder.isResult) else { continue }
            let path = folder + "/configuration.json"
            guard let theirs = StateFolder.configuration(at: path) else {
                differences.append(
                    "\(folder): has results, but no configuration.json that can be read")
                continue
            }
            differences += configuration.differences(from: theirs)
        }
        differences += saeDifferences(from: try saesInUse())
        guard differences.isEmpty else {
            throw ConfigurationConflict(saveDirectory: saveDirectory, differences: differences)
        }
    }

    /// Hooks of this configuration that `others` have another SAE for, a line each.
    private func saeDifferences(from others: [String: Set<String>]) -> [String] {
        configuration.saes.sorted { $0.key < $1.key }.flatMap { hook, ours in
            (others[hook] ?? []).filter { $0 != ours }.sorted().map {
                "SAE of \(hook): \($0) there, \(ours) here"
            }
        }
    }

    private static func configuration(at path: String) -> Configuration? {
        guard let bytes = try? MappedFile(path: path).withBytes({ Data($0) }) else { return nil }
        return try? JSONDecoder().decode(Configuration.self, from: bytes)
    }

    /// The folders of the label's configurations.
    private func configurationFolders() throws -> [String] {
        try contents(of: labelDirectory).map { "\(labelDirectory)/\($0)" }.filter(isDirectory)
    }

    /// The SAEs of journals and of files that are there, by hook.
    private func saesInUse() throws -> [String: Set<String>] {
        var used: [String: Set<String>] = [:]
        for path in try paths(".journal") {
            for (hook, sae) in try JournalReader(path: path)?.header?.saes ?? [:] {
                used[hook, default: []].insert(sae)
            }
        }
        let naming = OutputNaming(label: labelName)
        for receipt in try receipts() {
            for (hook, sae) in receipt.saes {
                guard let point = HookPoint(hook) else { continue }
                let isThere = naming.activations(point, author: receipt.author).contains {
                    receipt.files[$0] != nil && fileExists("\(saveDirectory)/\($0)")
                }
                if isThere { used[hook, default: []].insert(sae) }
            }
        }
        return used
    }

    /// The same, before `plan` begins: files of its names that are there without a record of their making are another
    /// configuration's too, for all that is known. Throws `ConfigurationConflict` or `FileError`.
    public func check(beginning plan: RunPlan) throws {
        try check()
        guard try !hasResults() else { return }
        let naming = OutputNaming(label: plan.label)
        let names = plan.authors.flatMap { author in
            plan.items.map { $0.name(naming, author: author.author) }
        }
        let unknown = names.filter { fileExists("\(saveDirectory)/\($0)") }
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
        try makeDirectories(directory)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let text = Array(try encoder.encode(configuration))
        let number = String(UInt64.random(in: .min ... .max), radix: 16)
        for (path, content) in [(configurationPath, text), (generationPath, Array(number.utf8))]
        where !fileExists(path) {
            let file = try OutputFile(path: path, temporaryDirectory: directory)
            try file.write(content)
            _ = try file.commitIfAbsent()
        }
        generation = presentGeneration ?? ""
        guard StateFolder.configuration(at: claimPath) != configuration else { return }
        let runs = StateFolder.runs(of: saveDirectory)
        try makeDirectories(runs)
        try makeDirectories(StateFolder.root(of: saveDirectory) + "/claims")
        try OutputFile.make(path: claimPath, temporaryDirectory: runs) { try $0.write(text) }
        do {
            // Whoever had the claim may have had its first results meanwhile.
            try check()
        } catch {
            if StateFolder.configuration(at: claimPath) == configuration {
                try removeTree(claimPath)
            }
            throw error
        }
    }

    /// Fails where results are there that do not go with this run's, or a run that does not has begun since this one did:
    /// of two that began with nothing there, the later one goes on. To be called before and after a process puts its
    /// first results here. Throws `ConfigurationConflict` or `FileError`.
    func checkClaim() throws {
        if let theirs = StateFolder.configuration(at: claimPath) {
            let differences =
                configuration.differences(from: theirs)
                + saeDifferences(from: theirs.saes.mapValues { [$0] })
            guard differences.isEmpty else {
                throw ConfigurationConflict(
                    saveDirectory: saveDirectory, differences: differences, isAtWork: true)
            }
        }
        try check()
    }

    private var generationPath: String { directory + "/generation" }

    private var presentGeneration: String? {
        (try? MappedFile(path: generationPath))?.withBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// Makes the file at `path` of what `body` writes, begun in this folder. Fails where `--overwrite` has removed the
    /// folder since this run began, even if it is there again: a file begun in the old folder cannot be put in its place,
    /// and one begun in the new is noticed here. Throws `StateRemovedError`, `FileError` and what `body` throws.
    func makeFile(_ path: String, _ body: (OutputFile) throws -> Void) throws -> FileSeal {
        try OutputFile.make(path: path, temporaryDirectory: directory) { file in
            guard presentGeneration == generation else { throw StateRemovedError(path: directory) }
            try body(file)
        }
    }

    /// What `clear` removes.
    private func cleared(_ plan: RunPlan) -> [String] {
        let naming = OutputNaming(label: plan.label)
        return plan.authors.flatMap { author in
            plan.items(in: .both).map {
                "\(saveDirectory)/\($0.name(naming, author: author.author))"
            }
        }
    }

    /// Bytes that `clear` would free. Throws `FileError`.
    func clearableBytes(_ plan: RunPlan) throws -> Int {
        let own = try configurationFolders().flatMap { folder in
            try contents(of: folder).map { "\(folder)/\($0)" }
        }
        return (cleared(plan) + own).reduce(0) { $0 + fileSize($1) }
    }

    /// Bytes that journals have of the authors with these numbers. Throws `FileError`.
    func journalBytes(ofAuthors authors: Set<Int>) throws -> Int {
        try paths(".journal").reduce(0) {
            $0 + (try JournalReader(path: $1)?.size(ofAuthors: authors) ?? 0)
        }
    }

    /// Removes the plan's output files and all state of its model label. Says how many files of that label stay
    /// because the plan does not make them. Throws `FileError`.
    public func clear(_ plan: RunPlan) throws -> Int {
        // The state first, and in one step, so that a process still at work there fails at its next file instead of
        // going on in a folder that is another's.
        if fileExists(labelDirectory) {
            try makeDirectories(removed)
            let away = "\(removed)/\(String(UInt64.random(in: .min ... .max), radix: 16))"
            guard rename(labelDirectory, away) == 0 else {
                throw FileError("rename", labelDirectory)
            }
        }
        for path in cleared(plan) { try removeTree(path) }
        try removeRemains()
        let naming = OutputNaming(label: plan.label)
        return try contents(of: saveDirectory).count { $0.hasPrefix(naming.start) }
    }

    /// Removes what `clear` has put aside, also where it was killed then.
    private func removeRemains() throws {
        for name in try contents(of: removed) { try removeTree("\(removed)/\(name)") }
    }

    private var removed: String { StateFolder.root(of: saveDirectory) + "/removed" }

    // MARK: Content

    private static func isResult(_ name: String) -> Bool {
        name.hasSuffix(".journal") || name.hasSuffix(".receipt")
    }

    /// The names in `folder`; none where it is not there.
    private func contents(of folder: String) throws -> [String] {
        do {
            return try directoryContents(folder)
        } catch  where error.code == ENOENT {
            return []
        } catch  where error.code == ENOTDIR {
            throw FileError("create", folder, code: ENOTDIR)
        }
    }

    /// Paths of the files whose names end in `ending`, by name.
    func paths(_ ending: String) throws -> [String] {
        try contents(of: directory).filter { $0.hasSuffix(ending) }.map { "\(directory)/\($0)" }
    }

    /// What has been completed for this configuration, by whichever process. Files with other SAEs do not count.
    func completed() throws -> Receipts {
        Receipts(try receipts(), configuration, OutputNaming(label: labelName))
    }

    /// What has been completed, by whichever process.
    private func receipts() throws -> [AuthorReceipt] {
        let decoder = JSONDecoder()
        return try paths(".receipt").compactMap { path in
            // One that is damaged, or gone meanwhile, attests nothing: its files are made again.
            guard let bytes = try? MappedFile(path: path).withBytes({ Data($0) }) else {
                return nil
            }
            return try? decoder.decode(AuthorReceipt.self, from: bytes)
        }
    }

    func add(_ receipt: AuthorReceipt) throws {
        let name = String(UInt64.random(in: .min ... .max), radix: 16)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let text = Array(try encoder.encode(receipt))
        _ = try makeFile("\(directory)/\(name).receipt") { try $0.write(text) }
    }

    /// Removes what killed processes were writing, where nobody has touched it for an hour, or removing.
    public func removeStalePartials() throws {
        try removeRemains()
        for path in try partials() {
            var info = stat()
            if stat(path, &info) == 0, time(nil) - info.st_mtim.tv_sec > 3600 {
                try removeTree(path)
            }
        }
    }

    /// Files being written, or left so by killed processes. A writer whose file goes writes it again.
    private func partials() throws -> [String] {
        let runs = StateFolder.runs(of: saveDirectory)
        return try paths(".partial")
            + contents(of: runs).filter { $0.hasSuffix(".partial") }.map { "\(runs)/\($0)" }
    }

    /// Files of `plan`'s authors with these numbers that are not in their places. Throws `FileError`.
    public func missing(_ plan: RunPlan, authors: some Sequence<Int>) throws -> [String] {
        let receipts = try completed()
        let naming = OutputNaming(label: plan.label)
        return authors.flatMap { number in
            plan.items.map { $0.name(naming, author: plan.authors[number].author) }
        }.filter { !receipts.attest($0, in: saveDirectory) }
    }

    /// Whether anything that was finished is kept here. Throws `FileError`.
    public func hasResults() throws -> Bool {
        try contents(of: directory).contains(where: StateFolder.isResult)
    }

    /// Removes journals whose batches are all in complete files, and partial files, once every author of `plan`
    /// is complete. Says whether that is so. Throws `FileError`.
    public func finish(_ plan: RunPlan) throws -> Bool {
        let receipts = try completed()
        let naming = OutputNaming(label: plan.label)
        func areComplete(_ items: [OutputItem]) -> Bool {
            plan.authors.allSatisfy { author in
                items.allSatisfy {
                    receipts.attest($0.name(naming, author: author.author), in: saveDirectory)
                }
            }
        }
        guard areComplete(plan.items) else { return false }
        // The files' names and the receipts reach the disk before what they were made from goes.
        try synchronizeDirectory(saveDirectory)
        try synchronizeDirectory(directory)
        for path in try paths(".journal") {
            // Another run may be at work for other layers or formats.
            let items = try JournalReader(path: path)?.header?.items ?? []
            if areComplete(items) { try removeTree(path) }
        }
        for path in try partials() { try removeTree(path) }
        return true
    }
}

/// Files that were made are not in their places at the end of a run.
public struct MissingFilesError: Error, Equatable, CustomStringConvertible {
    /// The folder.
    public let saveDirectory: String
    /// The files' names.
    public let names: [String]

    /// `names` in `saveDirectory`.
    public init(saveDirectory: String, names: [String]) {
        (self.saveDirectory, self.names) = (saveDirectory, names)
    }

    /// One of them, how many more, and what to do.
    public var description: String {
        let others = names.count > 1 ? " and \(names.count - 1) more of this run's files" : ""
        return
            "\(saveDirectory)/\(names.first ?? "")\(others): not in place at the end of the run, though all work is done; something may have removed or changed what it made. Run the same command again to make what is missing"
    }
}
