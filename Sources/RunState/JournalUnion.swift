// Reads all journals of a state folder as one.

import Files
import Hooks
import Logging
import Synchronization
import Tokenization

/// Reads the journals of all processes in a state folder as one. Several threads can use it.
package final class JournalUnion: @unchecked Sendable {
    /// The place of a section in a journal.
    private struct Location {
        let reader: JournalReader
        let range: Range<Int>
        /// The number of rows of the batch in this journal.
        let rows: Int
    }

    private struct Key: Hashable {
        let author: Int
        let batch: Int
    }

    private let folder: StateFolder
    private let authors: Set<Int>
    private let kernels: String?
    private let makeLimits: () throws -> RecordLimits
    private let log: Logger
    // `lock` protects the properties below.
    private let lock = Mutex(())
    private var readers: [String: JournalReader] = [:]
    private var limits: RecordLimits?
    private var locations: [Key: [RecordSection: Location]] = [:]
    /// The places of the same sections in other journals. They are used if the place in `locations` is damaged.
    private var others: [Key: [RecordSection: [Location]]] = [:]
    /// The batches whose tokens were compared with the corpus and found equal.
    private var confirmed: Set<Key> = []
    private var warned: Set<String> = []

    /// Creates the union of the journals in `folder`, for the batches of `authors`, which are indices in the plan's
    /// order. Calls `limits` once, when the limits are first needed. If `kernels` is not nil, logs a warning for each
    /// journal that was made with other kernels.
    package init(
        _ folder: StateFolder, authors: Set<Int>, kernels: String?, log: Logger,
        limits: @escaping () throws -> RecordLimits
    ) {
        (self.folder, self.authors, self.kernels, self.log) = (folder, authors, kernels, log)
        makeLimits = limits
    }

    /// Reads the batches that were appended since the last call. If several journals have a batch, the first journal
    /// by name counts. If `fromOtherMachines` is true, opens the journals again, so that a network file system shows
    /// what other machines have appended. Throws `FileError` and the errors of `limits`.
    package func refresh(fromOtherMachines: Bool = false) throws {
        try lock.withLock { _ in try refreshAll(fromOtherMachines) }
    }

    private func refreshAll(_ fromOtherMachines: Bool) throws {
        for place in try folder.places(".journal") {
            if let reader = readers[place.path] {
                if fromOtherMachines { try reader.reopen() }
            } else {
                readers[place.path] = try JournalReader(place)
            }
        }
        for (path, reader) in readers.sorted(by: { $0.key < $1.key }) {
            let batches = try reader.newBatches(try allLimits(), authors.contains)
            for batch in batches { add(batch, of: reader) }
            for message in reader.damage { warn(path, message) }
            if let header = reader.header, let kernels, header.kernels != kernels, !batches.isEmpty,
                warned.insert(path).inserted
            {
                log.warning(
                    "\(path) was computed with the kernels \(header.kernels), but this process uses \(kernels); results may differ in the last bits from those of a run on one kind of machine"
                )
            }
        }
    }

    private func warn(_ path: String, _ damage: String) {
        guard warned.insert(path + damage).inserted else { return }
        log.warning("\(path): \(damage); the missing batches are computed again")
    }

    /// Adds a batch of `rows` tokens that this process has just appended to `journal`. Does not read the file. Throws
    /// `FileError`.
    package func add(
        author: Int, batch: Int, rows: Int, _ sections: [RecordSection: Range<Int>],
        of journal: JournalWriter
    ) throws {
        try lock.withLock { _ in
            let path = journal.place.path
            // If the journal was removed, a check before the author's files are made detects this.
            guard let reader = try readers[path] ?? JournalReader(journal.place) else { return }
            readers[path] = reader
            reader.skip(to: journal.end)
            let batch = JournalReader.Batch(
                author: author, batch: batch, rows: rows, sections: sections)
            add(batch, of: reader)
            let key = Key(author: author, batch: batch.batch)
            if locations[key]?[.documents]?.reader === reader { confirmed.insert(key) }
        }
    }

    private func add(_ batch: JournalReader.Batch, of reader: JournalReader) {
        let key = Key(author: batch.author, batch: batch.batch)
        for (section, range) in batch.sections {
            if case .features(let hook) = section {
                // Leaves out a section that was made with another SAE. `StateFolder.check` reports this conflict.
                let name = hook.description
                guard reader.header?.saes[name] == folder.settings.saes[name] else { continue }
            }
            let new = Location(reader: reader, range: range, rows: batch.rows)
            guard let known = locations[key]?[section] else {
                locations[key, default: [:]][section] = new
                continue
            }
            // The first journal by name counts. The second is used if the section in the first is damaged.
            let (first, second) = known.reader.path <= reader.path ? (known, new) : (new, known)
            locations[key]![section] = first
            if section == .documents, first.reader === reader { confirmed.remove(key) }
            others[key, default: [:]][section, default: []].append(second)
        }
    }

    /// Whether the journals have the whole batch: a documents section with exactly the tokens of `sequences`, and a
    /// features section for each of `hooks`. Discards sections that do not fit, with a warning. Throws `FileError`.
    package func has(
        author: Int, batch: Int, _ sequences: ArraySlice<TokenSequence>, hooks: [HookPoint]
    ) throws -> Bool {
        let key = Key(author: author, batch: batch)
        return try lock.withLock { _ in
            guard locations[key] != nil else { return false }
            let rows = sequences.reduce(0) { $0 + $1.tokens.count }
            while let documents = locations[key]?[.documents], !confirmed.contains(key) {
                if documents.rows == rows,
                    let bytes = try documents.reader.read(documents.range),
                    BatchRecord.documents(bytes, of: sequences) != nil
                {
                    confirmed.insert(key)
                } else {
                    discard(.documents, of: key)
                }
            }
            guard confirmed.contains(key) else { return false }
            return hooks.allSatisfy { hook in
                while let found = locations[key]?[.features(hook)] {
                    if found.rows == rows { return true }
                    discard(.features(hook), of: key)
                }
                return false
            }
        }
    }

    /// Discards a section that does not fit the batch, with a warning. If another journal has the section too, that
    /// journal counts from then on.
    private func discard(_ section: RecordSection, of key: Key) {
        guard let bad = locations[key]?.removeValue(forKey: section) else { return }
        warn(bad.reader.path, "batch \(key.batch) of author \(key.author) is damaged")
        guard var rest = others[key]?[section], let next = rest.popLast() else { return }
        others[key]?[section] = rest
        locations[key]?[section] = next
    }

    /// Whether the batch was computed in parts because memory was short.
    func isDivided(author: Int, batch: Int) -> Bool {
        lock.withLock { _ in
            locations[Key(author: author, batch: batch)]?[.division] != nil
        }
    }

    /// Returns the bytes of a section, and the number of rows of its batch. Throws `FileError`, or
    /// `JournalChangedError` if the section no longer exists.
    func read(
        _ section: RecordSection, author: Int, batch: Int
    ) throws -> (bytes: [UInt8], rows: Int) {
        try lock.withLock { _ in
            let location = try location(section, author: author, batch: batch)
            guard let bytes = try location.reader.read(location.range) else {
                throw JournalChangedError(
                    path: location.reader.path, author: author, batch: batch)
            }
            return (bytes, location.rows)
        }
    }

    /// Returns the number of features that fired at `hook`, summed over all tokens of the batch. Throws the errors of
    /// `read`.
    func firingCount(_ hook: HookPoint, author: Int, batch: Int) throws -> Int {
        try lock.withLock { _ in
            let location = try location(.features(hook), author: author, batch: batch)
            return BatchRecord.firingCount(
                length: location.range.count, rows: location.rows, values: try allLimits().values)
        }
    }

    /// Returns the limits of all records. Throws the errors of the function `limits` that was passed to `init`.
    func limitsOfAll() throws -> RecordLimits { try lock.withLock { _ in try allLimits() } }

    private func allLimits() throws -> RecordLimits {
        let limits = try self.limits ?? makeLimits()
        self.limits = limits
        return limits
    }

    /// Makes the error for a section whose content has changed. If no journal has the section any more, throws this
    /// error.
    func change(
        _ section: RecordSection, author: Int, batch: Int
    ) throws -> JournalChangedError {
        try lock.withLock { _ in
            let path = try location(section, author: author, batch: batch).reader.path
            return JournalChangedError(path: path, author: author, batch: batch)
        }
    }

    private func location(
        _ section: RecordSection, author: Int, batch: Int
    ) throws -> Location {
        guard let location = locations[Key(author: author, batch: batch)]?[section] else {
            throw JournalChangedError(path: folder.directory.path, author: author, batch: batch)
        }
        return location
    }
}
