// `save_dir/.sae-extract`: what lets a run go on where another ended. Every file in it is written by one process,
// under a name that no other has, and never changed by another; so nothing depends on locks.
//
//   runs/<time>-<id>.json                     an entry of run.json, one for each invocation
//   runs/<id>.partial                         one being written
//   models/<label>/<configuration>/           one folder for each model label and configuration
//     configuration.json                      the configuration in words
//     <time>-<host>-<process>-<id>.journal    finished batches of one process
//     <id>.receipt                            files that are complete, with their checksums
//     <id>.partial                            a file being written

import ArrayFiles
import Corpus
import Foundation
import Gemma2

/// One model label's state under one configuration.
public struct StateFolder: Codable, Sendable {
    /// Where results go.
    public let saveDirectory: String
    /// The folder of the model label.
    let labelDirectory: String
    /// The folder of the configuration.
    let directory: String
    let configuration: Configuration

    /// The state of `plan`'s model label under `configuration`. Nothing is looked at yet.
    public init(_ plan: RunPlan, _ configuration: Configuration) {
        saveDirectory = plan.saveDirectory
        labelDirectory =
            "\(StateFolder.root(of: plan.saveDirectory))/models/\(OutputNaming(label: plan.label).labelName)"
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
        for other in try contents(of: labelDirectory)
        where "\(labelDirectory)/\(other)" != directory {
            let folder = "\(labelDirectory)/\(other)"
            // A run that failed before its first batch holds nothing.
            guard try contents(of: folder).contains(where: StateFolder.isResult) else { continue }
            let path = folder + "/configuration.json"
            guard let bytes = try? MappedFile(path: path).withBytes({ Data($0) }),
                let theirs = try? JSONDecoder().decode(Configuration.self, from: bytes)
            else {
                differences.append(
                    "\(folder): has results, but no configuration.json that can be read")
                continue
            }
            differences += configuration.differences(from: theirs)
        }
        var used: [String: String] = [:]
        for path in try paths(".journal") {
            if let saes = try JournalReader(path: path)?.header?.saes {
                used.merge(saes) { first, _ in first }
            }
        }
        for receipt in try receipts() { used.merge(receipt.saes) { first, _ in first } }
        for (hook, sae) in configuration.saes.sorted(by: { $0.key < $1.key }) {
            if let other = used[hook], other != sae {
                differences.append("SAE of \(hook): \(other) there, \(sae) here")
            }
        }
        guard differences.isEmpty else {
            throw ConfigurationConflict(saveDirectory: saveDirectory, differences: differences)
        }
    }

    /// The same, before `plan` begins: files of its names that are there without a record of their making are another
    /// configuration's too, for all that is known. Throws `ConfigurationConflict` or `FileError`.
    public func check(beginning plan: RunPlan) throws {
        try check()
        guard try !contents(of: directory).contains(where: StateFolder.isResult) else { return }
        let naming = OutputNaming(label: plan.label)
        let names = plan.authors.flatMap { author in
            plan.items.map { $0.name(naming, author: author.author) }
        }
        let unknown = names.filter { fileExists("\(saveDirectory)/\($0)") }
        guard let first = unknown.first else { return }
        let others = unknown.count > 1 ? " and \(unknown.count - 1) more of this run's files" : ""
        throw ConfigurationConflict(
            saveDirectory: saveDirectory,
            differences: [
                "\(first)\(others): there, but nothing in .sae-extract says how they were made"
            ])
    }

    /// Makes the folder, after `check`. Throws `FileError`.
    public func open() throws {
        try makeDirectories(directory)
        guard !fileExists(configurationPath) else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let file = try OutputFile(path: configurationPath, temporaryDirectory: directory)
        try file.write(Array(try encoder.encode(configuration)))
        _ = try file.commitIfAbsent()
    }

    /// Removes the plan's output files and all state of its model label. Says how many files of that label stay
    /// because the plan does not make them. Throws `FileError`.
    public func clear(_ plan: RunPlan) throws -> Int {
        let naming = OutputNaming(label: plan.label)
        for author in plan.authors {
            for item in plan.items(in: .both) {
                try removeTree("\(saveDirectory)/\(item.name(naming, author: author.author))")
            }
        }
        // In one step, so that a process still at work there fails at its next file instead of going on in a
        // folder that is another's.
        if fileExists(labelDirectory) {
            let away =
                "\(labelDirectory).removed-\(String(UInt64.random(in: .min ... .max), radix: 16))"
            guard rename(labelDirectory, away) == 0 else {
                throw FileError("rename", labelDirectory)
            }
            try removeTree(away)
        }
        return try contents(of: saveDirectory).count { $0.hasPrefix(naming.start) }
    }

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

    /// What has been completed, by whichever process.
    func receipts() throws -> [AuthorReceipt] {
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
        try OutputFile.make(
            path: "\(directory)/\(name).receipt", temporaryDirectory: directory
        ) { try $0.write(text) }
    }

    /// Removes what killed processes were writing, where nobody has touched it for an hour.
    public func removeStalePartials() throws {
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

    /// Removes journals whose batches are all in complete files, and partial files, once every author of `plan`
    /// is complete. Says whether that is so. Throws `FileError`.
    public func finish(_ plan: RunPlan) throws -> Bool {
        let receipts = Receipts(try receipts())
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
