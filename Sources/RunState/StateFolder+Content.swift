// What lies in a state folder: found, added to, cleared away.

import AuthorReceipts
import ByteJSON
import Files
import FoundationEssentials
import Glibc
import RunFiles
import Synchronization

extension StateFolder {
    // MARK: Overwriting

    /// The places of `files` that `clear` removes, in both spellings of the label, if they exist.
    private func cleared(_ files: PlannedFiles) throws -> [GuardedPath] {
        let present = Set(try contents(of: saveDirectory).map(ExactString.init))
        let items = OutputItem.items(of: files.hooks, in: .both)
        return files.spellings.flatMap { naming in
            files.authors.flatMap { author in items.map { $0.name(naming, author: author.name) } }
        }.filter { present.contains(ExactString($0)) }.map { GuardedPath(saveDirectory, $0) }
    }

    /// Bytes that `clear` would free. Throws `FileError`.
    package func clearableBytes(_ files: PlannedFiles) throws -> Int {
        try (cleared(files) + ownFiles(files)).reduce(0) { sum, place in
            guard let info = try place.status(), info.st_mode & S_IFMT == S_IFREG else {
                return sum
            }
            return sum + Int(info.st_size)
        }
    }

    /// How many files `clear` would remove. Throws `FileError`.
    package func clearableFiles(_ files: PlannedFiles) throws -> Int {
        try cleared(files).count + ownFiles(files).count
    }

    /// The state's files, of all configurations.
    private func ownFiles(_ files: PlannedFiles) throws -> [GuardedPath] {
        try files.spellings.map { StateFolder.labelDirectory($0, in: saveDirectory) }
            .flatMap { try configurationFolders(in: $0) }
            .flatMap { folder in try folder.names().map { folder / $0 } }
    }

    /// Bytes that journals have of the authors with these numbers. Throws `FileError`.
    package func journalBytes(ofAuthors authors: Set<Int>) throws -> Int {
        try places(".journal").reduce(0) {
            $0 + (try JournalReader($1)?.size(ofAuthors: authors) ?? 0)
        }
    }

    /// Removes the planned output files and all state of its model label, in whichever spelling. Says how many files of
    /// that label stay because the plan does not make them. Throws `FileError`.
    public func clear(_ files: PlannedFiles) throws -> Int {
        let places = try cleared(files)
        // The state first, and in one step, so that a process still at work there fails at its next file instead of
        // going on in a folder that is another's.
        for naming in files.spellings {
            let folder = StateFolder.labelDirectory(naming, in: saveDirectory)
            guard let models = try folder.parent.folder(), try folder.folder() != nil else {
                continue
            }
            let away = uniqueName()
            try models.rename(folder.name, to: away, in: try removed.makeFolder())
        }
        known.receipts.removeAll()
        known.reader.reset()
        // Those that whoever was at work has put there meanwhile too.
        for place in try places + cleared(files) { try place.remove() }
        try removeRemains()
        return try contents(of: saveDirectory).count { $0.hasPrefix(naming.start) }
    }

    /// Removes what `clear` has put aside, also where it was killed then.
    private func removeRemains() throws {
        guard let folder = try removed.folder() else { return }
        for name in try folder.names() { try folder.removeTree(name) }
    }

    private var removed: GuardedPath { StateFolder.root(of: saveDirectory) / "removed" }

    // MARK: Content

    static func isResult(_ name: String) -> Bool {
        [".journal", ".receipts", ".receipt"].contains(where: name.hasSuffix)
    }

    /// The names in `folder`; none where it is not there.
    func contents(of folder: String) throws -> [String] {
        do {
            return try directoryContents(folder)
        } catch  where error.code == ENOENT {
            return []
        } catch  where error.code == ENOTDIR {
            throw FileError("create", folder, code: ENOTDIR)
        }
    }

    /// The files whose names end in `ending`, by name.
    func places(_ ending: String) throws -> [GuardedPath] {
        try directory.names(endingIn: ending).map { directory / $0 }
    }

    /// What has been completed for this configuration, by whichever process: what is known, and what has come since.
    /// Throws `FileError`.
    package func completed() throws -> Receipts {
        // Nothing has begun where there is no folder.
        if let folder = try directory.folder() {
            let expected = known.expected.withLock { $0 }
            let new = try known.reader.new(in: folder, expected.canHave)
            for receipt in new {
                known.receipts.add(receipt, saes: settings.saes, naming)
            }
        }
        return known.receipts
    }

    /// Has `authors`, by their places in the plan's order, and arrays of `columns` tokens compared with what receipts say. Unless
    /// they are all of the plan's, receipts may be of others too.
    package func expect(
        _ authors: [(offset: Int, element: PlannedFiles.Author)], columns: Int, areAll: Bool
    ) {
        let authors = Dictionary(
            authors.map {
                (
                    ExactString($0.element.name),
                    (number: $0.offset, documents: $0.element.documents)
                )
            },
            uniquingKeysWith: { first, _ in first })
        known.expected.withLock {
            $0 = ExpectedAuthors(authors: authors, columns: columns, areAll: areAll)
        }
    }

    /// What is to be said of receipts that were read: a sentence for each that is damaged.
    public var receiptWarnings: [String] {
        known.reader.damage.map {
            "\($0): a receipt that is damaged, or is not of this run's making; the files that it tells of are made again"
        }
    }

    /// Records what this process has completed. Throws `StateRemovedError` and `FileError`.
    package func add(_ receipt: AuthorReceipt) throws {
        try known.writer.withLock { writer in
            let own: ReceiptWriter
            if let open = writer {
                // Whatever follows a line that could not be written has a file of its own.
                writer = nil
                try open.append(receipt)
                own = open
            } else {
                own = try ReceiptWriter(self, receipt)
            }
            writer = own
            known.reader.skip(own.name, to: own.count)
        }
        known.receipts.add(receipt, saes: settings.saes, naming)
    }

    /// Removes what killed processes were writing, where nobody has touched it for an hour, or removing.
    public func removeStalePartials() throws {
        try removeRemains()
        for place in try partials() {
            if let info = try place.status(), time(nil) - info.st_mtim.tv_sec > 3600 {
                try place.remove()
            }
        }
    }

    /// Files being written, or left so by killed processes. A writer whose file goes writes it again.
    private func partials() throws -> [GuardedPath] {
        let runs = StateFolder.runs(of: saveDirectory)
        return try places(".partial") + runs.names(endingIn: ".partial").map { runs / $0 }
    }

    /// Files of the authors with these numbers that are not in their places. Throws `FileError`.
    public func missing(_ files: PlannedFiles, authors: some Sequence<Int>) throws -> [String] {
        let receipts = try completed()
        return authors.flatMap { number in
            files.items.map { $0.name(naming, author: files.authors[number].name) }
        }.filter { !receipts.attest($0, in: saveDirectory) }
    }

    /// Whether a run for the label that `naming` is for has left anything finished in `saveDirectory`.
    package static func hasResults(of naming: OutputNaming, in saveDirectory: String) -> Bool {
        let folder = labelDirectory(naming, in: saveDirectory)
        return ((try? folder.names()) ?? []).contains {
            ((try? (folder / $0).names()) ?? []).contains(where: isResult)
        }
    }

    /// Whether anything that was finished is kept here. Throws `FileError`.
    public func hasResults() throws -> Bool {
        try directory.names().contains(where: StateFolder.isResult)
    }

    /// Removes journals whose batches are all in complete files, and partial files, once every author of `files`
    /// is complete. Says whether that is so. Throws `FileError`.
    public func finish(_ files: PlannedFiles) throws -> Bool {
        let receipts = try completed()
        func areComplete(_ items: [OutputItem]) -> Bool {
            files.authors.allSatisfy { author in
                items.allSatisfy {
                    receipts.attest($0.name(naming, author: author.name), in: saveDirectory)
                }
            }
        }
        guard areComplete(files.items) else { return false }
        // The files' names and the receipts reach the disk before what they were made from goes.
        try synchronizeDirectory(saveDirectory)
        try directory.synchronize()
        var complete: [[OutputItem]: Bool] = [files.items: true]
        for place in try places(".journal") {
            // Another run may be at work for other layers or formats.
            let items = try JournalReader(place)?.header?.items ?? []
            let isComplete = complete[items] ?? areComplete(items)
            complete[items] = isComplete
            if isComplete { try place.remove() }
        }
        for place in try partials() { try place.remove() }
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
