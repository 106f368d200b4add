// What all processes together have finished.

import Files
import FoundationEssentials
import Glibc
import Hooks
import Logging
import Synchronization
import Tensors
import Tokenization

/// The journals of a state folder, read as one; from several threads.
package final class JournalUnion: @unchecked Sendable {
    private struct Location {
        let reader: JournalReader
        let range: Range<Int>
        /// Rows that the batch has there.
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
    // Guarded by `lock`.
    private let lock = Mutex(())
    private var readers: [String: JournalReader] = [:]
    private var limits: RecordLimits?
    private var locations: [Key: [RecordSection: Location]] = [:]
    /// What other journals have of sections that are in `locations`.
    private var others: [Key: [RecordSection: [Location]]] = [:]
    /// Batches whose documents have been compared with the corpus'.
    private var confirmed: Set<Key> = []
    private var warned: Set<String> = []

    /// The union as far as `authors` (by their numbers) are concerned. A journal made with other kernels than
    /// `kernels` is warned about. `limits` are asked for when the first journal is read.
    package init(
        _ folder: StateFolder, authors: Set<Int>, kernels: String?, log: Logger,
        limits: @escaping () throws -> RecordLimits
    ) {
        (self.folder, self.authors, self.kernels, self.log) = (folder, authors, kernels, log)
        makeLimits = limits
    }

    /// Takes in what has been appended since, `fromOtherMachines` too. A batch found in several journals is taken
    /// from the first by name. Throws `FileError`, and what making the limits throws.
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
                    "\(path) was computed with \(header.kernels), not \(kernels): results may differ in last bits from a run on one kind of machine"
                )
            }
        }
    }

    private func warn(_ path: String, _ damage: String) {
        guard warned.insert(path + damage).inserted else { return }
        log.warning("\(path): \(damage); what is missing is computed again")
    }

    /// Takes in a batch of `rows` tokens that `journal`, this process' own, has just got: what was written need not be read.
    package func add(
        author: Int, batch: Int, rows: Int, _ sections: [RecordSection: Range<Int>],
        of journal: JournalWriter
    ) throws {
        try lock.withLock { _ in
            let path = journal.place.path
            // Where the file is gone, that is found when the author's files are to be made.
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
                // Of another run that is being refused, or will be.
                let name = hook.description
                guard reader.header?.saes[name] == folder.settings.saes[name] else { continue }
            }
            let new = Location(reader: reader, range: range, rows: batch.rows)
            guard let known = locations[key]?[section] else {
                locations[key, default: [:]][section] = new
                continue
            }
            // Of several the first by name counts; the others only where it turns out to be damaged.
            let (first, second) = known.reader.path <= reader.path ? (known, new) : (new, known)
            locations[key]![section] = first
            if section == .documents, first.reader === reader { confirmed.remove(key) }
            others[key, default: [:]][section, default: []].append(second)
        }
    }

    /// Whether batch `batch` of author `author`, of the documents `sequences`, is there with `hooks`. What is there of other
    /// documents is damaged: it is warned of, and passed over. Throws `FileError`.
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

    /// Passes over a section that cannot be of the batch that `key` names.
    private func discard(_ section: RecordSection, of key: Key) {
        guard let bad = locations[key]?.removeValue(forKey: section) else { return }
        warn(bad.reader.path, "batch \(key.batch) of author \(key.author) is damaged")
        guard var rest = others[key]?[section], let next = rest.popLast() else { return }
        others[key]?[section] = rest
        locations[key]?[section] = next
    }

    /// Whether batch `batch` of author `author` was computed in parts.
    func isDivided(author: Int, batch: Int) -> Bool {
        lock.withLock { _ in
            locations[Key(author: author, batch: batch)]?[.division] != nil
        }
    }

    /// The bytes of one section, and how many rows the batch has. Throws `FileError`, and `JournalChangedError` where it is not
    /// there any more.
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

    /// How many features of `hook` fired in a batch. Throws as `read` does.
    func firingCount(_ hook: HookPoint, author: Int, batch: Int) throws -> Int {
        try lock.withLock { _ in
            let location = try location(.features(hook), author: author, batch: batch)
            return BatchRecord.firingCount(
                length: location.range.count, rows: location.rows, values: try allLimits().values)
        }
    }

    /// What no record goes beyond. Throws what making it throws.
    func limitsOfAll() throws -> RecordLimits { try lock.withLock { _ in try allLimits() } }

    private func allLimits() throws -> RecordLimits {
        let limits = try self.limits ?? makeLimits()
        self.limits = limits
        return limits
    }

    /// What is to be said of a section that is not what it was. Throws `JournalChangedError` where it is not there at all.
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

/// One author's batches in a union that has them all.
package struct AuthorJournal {
    let union: JournalUnion
    /// The author's place in the plan's order.
    package let number: Int
    /// The documents of each batch.
    package let batches: [ArraySlice<TokenSequence>]
    package let limits: RecordLimits

    /// The batches of author `number`. Throws what making the union's limits throws.
    package init(_ union: JournalUnion, number: Int, batches: [ArraySlice<TokenSequence>]) throws {
        (self.union, self.number, self.batches) = (union, number, batches)
        limits = try union.limitsOfAll()
    }

    /// Whether batch `batch` was computed in parts for want of memory.
    package func isDivided(_ batch: Int) -> Bool { union.isDivided(author: number, batch: batch) }

    package func documents(of batch: Int) throws -> [DocumentRecord] {
        let (bytes, _) = try union.read(.documents, author: number, batch: batch)
        guard let documents = BatchRecord.documents(bytes, of: batches[batch]) else {
            throw try union.change(.documents, author: number, batch: batch)
        }
        return documents
    }

    /// How many features fired.
    package func firingCount(_ hook: HookPoint, of batch: Int) throws -> Int {
        try union.firingCount(hook, author: number, batch: batch)
    }

    package func features(_ hook: HookPoint, of batch: Int) throws -> SparseRows {
        let (bytes, rows) = try union.read(.features(hook), author: number, batch: batch)
        guard BatchRecord.rowCount(.features(hook), bytes[...], limits) == rows else {
            throw try union.change(.features(hook), author: number, batch: batch)
        }
        return BatchRecord.decodeFeatures(bytes, values: limits.values)
    }
}
