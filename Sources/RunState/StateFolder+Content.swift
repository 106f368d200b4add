// Finds, adds and removes files of a state folder.

import AuthorReceipts
import ByteJSON
import Files
import Glibc
import RunFiles
import Synchronization

extension StateFolder {
    // MARK: Overwriting

    /// Returns the places of the output files that `clear` removes and that exist, in both spellings of the label.
    private func cleared(_ files: PlannedFiles) throws -> [GuardedPath] {
        let present = Set(try contents(of: saveDirectory).map(ExactString.init))
        let items = OutputItem.items(of: files.hooks, in: .both)
        return files.spellings.flatMap { naming in
            files.authors.flatMap { author in items.map { $0.name(naming, author: author.name) } }
        }.filter { present.contains(ExactString($0)) }.map { GuardedPath(saveDirectory, $0) }
    }

    /// Returns the number of bytes that `clear` would free. Throws `FileError`.
    package func clearableBytes(_ files: PlannedFiles) throws -> Int {
        try (cleared(files) + ownFiles(files)).reduce(0) { sum, place in
            guard let info = try place.status(), info.st_mode & S_IFMT == S_IFREG else {
                return sum
            }
            return sum + Int(info.st_size)
        }
    }

    /// Returns the number of files that `clear` would remove. Throws `FileError`.
    package func clearableFiles(_ files: PlannedFiles) throws -> Int {
        try cleared(files).count + ownFiles(files).count
    }

    /// Returns the places of the files of the label's state, of all configurations and in both spellings of the label.
    private func ownFiles(_ files: PlannedFiles) throws -> [GuardedPath] {
        try files.spellings.map { StateFolder.labelDirectory($0, in: saveDirectory) }
            .flatMap { try configurationFolders(in: $0) }
            .flatMap { folder in try folder.names().map { folder / $0 } }
    }

    /// Returns the number of bytes that journals hold of the authors at these places in the plan's order. Throws `FileError`.
    package func journalBytes(ofAuthors authors: Set<Int>) throws -> Int {
        try places(".journal").reduce(0) {
            $0 + (try JournalReader($1)?.size(ofAuthors: authors) ?? 0)
        }
    }

    /// Removes the planned output files and all state of the model label, in both spellings of the label. Returns the number of
    /// files of the label that stay because the plan does not make them. Throws `FileError`.
    public func clear(_ files: PlannedFiles) throws -> Int {
        let places = try cleared(files)
        // The state goes first, by one rename. A process that is still working there then fails at its next file, and does not
        // continue in the folder of another run.
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
        // List the files again: a running process may have added some since the first listing.
        for place in try places + cleared(files) { try place.remove() }
        try removeRemains()
        return try contents(of: saveDirectory).count { $0.hasPrefix(naming.start) }
    }

    /// Removes the folders that `clear` has renamed, also those of a `clear` that was killed.
    private func removeRemains() throws {
        guard let folder = try removed.folder() else { return }
        for name in try folder.names() { try folder.removeTree(name) }
    }

    /// The folder that `clear` moves state to before it removes it.
    private var removed: GuardedPath { StateFolder.root(of: saveDirectory) / "removed" }

    // MARK: Content

    /// Whether a file of this name in a configuration's folder holds finished work.
    static func isResult(_ name: String) -> Bool {
        [".journal", ".receipts", ".receipt"].contains(where: name.hasSuffix)
    }

    /// Returns the names in `folder`; none if it does not exist.
    func contents(of folder: String) throws -> [String] {
        do {
            return try directoryContents(folder)
        } catch  where error.code == ENOENT {
            return []
        } catch  where error.code == ENOTDIR {
            throw FileError("create", folder, code: ENOTDIR)
        }
    }

    /// Returns the places of the files whose names end in `ending`, sorted by name.
    func places(_ ending: String) throws -> [GuardedPath] {
        try directory.names(endingIn: ending).map { directory / $0 }
    }

    /// Reads the receipts that were added since the last call, by all processes of this configuration, and returns all receipts.
    /// Throws `FileError`.
    package func completed() throws -> Receipts {
        // Without a folder no run of this configuration has begun.
        if let folder = try directory.folder() {
            let expected = known.expected.withLock { $0 }
            let new = try known.reader.new(in: folder, expected.canHave)
            for receipt in new {
                known.receipts.add(receipt, saes: settings.saes, naming)
            }
        }
        return known.receipts
    }

    /// Sets what receipts are compared with: `authors` with their places in the plan's order, and at most `columns` tokens per
    /// document. With `areAll`, receipts of other authors count as damaged.
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

    /// A warning for each damaged receipt that was read.
    public var receiptWarnings: [String] {
        known.reader.damage.map {
            "\($0): a receipt that is damaged or does not fit this run; the files that it records are made again"
        }
    }

    /// Writes the receipt of an author whose files this process has completed. Throws `StateRemovedError` and `FileError`.
    package func add(_ receipt: AuthorReceipt) throws {
        try known.writer.withLock { writer in
            let own: ReceiptWriter
            if let open = writer {
                // If the line cannot be written, the next receipt starts a new file.
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

    /// Removes what killed processes left: unfinished files that were not changed for an hour, and the rest of a `clear`. Throws
    /// `FileError`.
    public func removeStalePartials() throws {
        try removeRemains()
        for place in try partials() {
            if let info = try place.status(), time(nil) - info.st_mtim.tv_sec > 3600 {
                try place.remove()
            }
        }
    }

    /// Returns the places of unfinished files, of running and of killed processes. A process whose unfinished file is removed
    /// writes it again.
    private func partials() throws -> [GuardedPath] {
        let runs = StateFolder.runs(of: saveDirectory)
        return try places(".partial") + runs.names(endingIn: ".partial").map { runs / $0 }
    }

    /// Returns the names of the files of the authors at these places in the plan's order that are not complete and in place.
    /// Throws `FileError`.
    public func missing(_ files: PlannedFiles, authors: some Sequence<Int>) throws -> [String] {
        let receipts = try completed()
        return authors.flatMap { number in
            files.items.map { $0.name(naming, author: files.authors[number].name) }
        }.filter { !receipts.attest($0, in: saveDirectory) }
    }

    /// Whether a run of any configuration has left finished work of the label of `naming` in `saveDirectory`.
    package static func hasResults(of naming: OutputNaming, in saveDirectory: String) -> Bool {
        let folder = labelDirectory(naming, in: saveDirectory)
        return ((try? folder.names()) ?? []).contains {
            ((try? (folder / $0).names()) ?? []).contains(where: isResult)
        }
    }

    /// Whether the folder holds finished work. Throws `FileError`.
    public func hasResults() throws -> Bool {
        try directory.names().contains(where: StateFolder.isResult)
    }

    /// Removes unfinished files, and journals whose batches are all in complete files, if every author of `files` is complete.
    /// Returns whether every author is complete. Throws `FileError`.
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
        // The names of the files and the receipts must be on the disk before the journals are removed.
        try synchronizeDirectory(saveDirectory)
        try directory.synchronize()
        var complete: [[OutputItem]: Bool] = [files.items: true]
        for place in try places(".journal") {
            // The journal may belong to a run of other layers or formats that is still working.
            let items = try JournalReader(place)?.header?.items ?? []
            let isComplete = complete[items] ?? areComplete(items)
            complete[items] = isComplete
            if isComplete { try place.remove() }
        }
        for place in try partials() { try place.remove() }
        return true
    }
}
