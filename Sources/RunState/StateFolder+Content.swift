// Finds, adds and removes files of a state folder.

import AuthorReceipts
import ByteJSON
import Files
import Glibc
import RunFiles
import Synchronization

extension StateFolder {
    // MARK: Overwriting

    /// Returns the places of the existing output files that `clear` removes, under both spellings of the label.
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

    /// Returns the places of all state files of the label, in all configurations and under both spellings of the
    /// label.
    private func ownFiles(_ files: PlannedFiles) throws -> [GuardedPath] {
        try files.spellings.map { StateFolder.labelDirectory($0, in: saveDirectory) }
            .flatMap { try configurationFolders(in: $0) }
            .flatMap { folder in try folder.names().map { folder / $0 } }
    }

    /// Returns the number of bytes that the batches of `authors` have in all journals. `authors` are indices in the
    /// plan's order. Throws `FileError`.
    package func journalBytes(ofAuthors authors: Set<Int>) throws -> Int {
        try places(".journal").reduce(0) {
            $0 + (try JournalReader($1)?.size(ofAuthors: authors) ?? 0)
        }
    }

    /// Removes the planned output files and all state of the label, under both spellings. Returns the number of files
    /// of the label that stay because they are not in the plan. Throws `FileError`.
    package func clear(_ files: PlannedFiles) throws -> Int {
        let places = try cleared(files)
        // Moves the state away first, by one rename. Then a process that still works in the old state fails at its
        // next file. Otherwise, the process would continue in the state folder of another run.
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
        // Lists the files again, because a running process may have added files since the first listing.
        for place in try places + cleared(files) { try place.remove() }
        try removeRemains()
        return try contents(of: saveDirectory).count { $0.hasPrefix(naming.start) }
    }

    /// Removes the folders that `clear` has moved away, including those of a `clear` that was killed.
    private func removeRemains() throws {
        guard let folder = try removed.folder() else { return }
        for name in try folder.names() { try folder.removeTree(name) }
    }

    /// The folder into which `clear` moves state before it removes the state.
    private var removed: GuardedPath { StateFolder.root(of: saveDirectory) / "removed" }

    // MARK: Content

    /// Whether a file of this name in a configuration's folder holds finished work.
    static func isResult(_ name: String) -> Bool {
        [".journal", ".receipts", ".receipt"].contains(where: name.hasSuffix)
    }

    /// Returns the names in `folder`; an empty list if `folder` does not exist.
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

    /// Reads the receipts that were added since the last call, by any process of this configuration. Returns all
    /// receipts. Throws `FileError`.
    package func completed() throws -> Receipts {
        // If the folder does not exist, no run of this configuration has begun.
        if let folder = try directory.folder() {
            let expected = known.expected.withLock { $0 }
            let new = try known.reader.new(in: folder, expected.canHave)
            for receipt in new {
                known.receipts.add(receipt, saes: settings.saes, naming)
            }
        }
        return known.receipts
    }

    /// Sets the authors that receipts must fit, with their indices in the plan's order. Their documents have at most
    /// `columns` tokens. If `areAll` is true, receipts of other authors are treated as damaged.
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
    package var receiptWarnings: [String] {
        known.reader.damage.map {
            "\($0): a receipt that is damaged or does not fit this run; the files that it records are made again"
        }
    }

    /// Appends the receipt of an author whose files this process has completed. Throws `StateRemovedError` and
    /// `FileError`.
    package func add(_ receipt: AuthorReceipt) throws {
        try known.writer.withLock { writer in
            let own: ReceiptWriter
            if let open = writer {
                // If the line cannot be written, `writer` stays nil, and the next receipt starts a new file.
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

    /// Removes what killed processes have left: unfinished files that have not changed for an hour, and state that a
    /// `clear` has moved away. Throws `FileError`.
    package func removeStalePartials() throws {
        try removeRemains()
        for place in try partials() {
            if let info = try place.status(), time(nil) - info.st_mtim.tv_sec > 3600 {
                try place.remove()
            }
        }
    }

    /// Returns the places of unfinished files, also of running processes. A running process whose unfinished file is
    /// removed writes it again.
    private func partials() throws -> [GuardedPath] {
        let runs = StateFolder.runs(of: saveDirectory)
        return try places(".partial") + runs.names(endingIn: ".partial").map { runs / $0 }
    }

    /// Returns the names of the output files of `authors` that no receipt records, or that do not exist with a
    /// recorded size. `authors` are indices in the plan's order. Throws `FileError`.
    package func missing(_ files: PlannedFiles, authors: some Sequence<Int>) throws -> [String] {
        let receipts = try completed()
        return authors.flatMap { number in
            files.items.map { $0.name(naming, author: files.authors[number].name) }
        }.filter { !receipts.attest($0, in: saveDirectory) }
    }

    /// Whether `saveDirectory` has finished work of the label of `naming`, from a run of any configuration.
    package static func hasResults(of naming: OutputNaming, in saveDirectory: String) -> Bool {
        let folder = labelDirectory(naming, in: saveDirectory)
        return ((try? folder.names()) ?? []).contains {
            ((try? (folder / $0).names()) ?? []).contains(where: isResult)
        }
    }

    /// Whether the folder holds finished work. Throws `FileError`.
    package func hasResults() throws -> Bool {
        try directory.names().contains(where: StateFolder.isResult)
    }

    /// If all authors of `files` are complete, removes unfinished files and the journals that are no longer needed.
    /// Returns whether all authors are complete. Throws `FileError`.
    package func finish(_ files: PlannedFiles) throws -> Bool {
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
            // The journal may belong to a run of other layers or formats that has not ended. So it is removed only if
            // the files that its own header lists are complete.
            let items = try JournalReader(place)?.header?.items ?? []
            let isComplete = complete[items] ?? areComplete(items)
            complete[items] = isComplete
            if isComplete { try place.remove() }
        }
        for place in try partials() { try place.remove() }
        return true
    }
}
