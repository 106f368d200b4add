// What all processes together have finished.

import ArrayFiles
import FoundationEssentials
import Gemma2
import Glibc
import Logging
import Synchronization
import Tensors

/// The journals of a state folder, read as one; from several threads.
final class JournalUnion: @unchecked Sendable {
    private struct Location {
        let reader: JournalReader
        let range: Range<Int>
    }

    private struct Key: Hashable {
        let author: Int
        let batch: Int
    }

    private let folder: StateFolder
    private let authors: Set<Int>
    private let kernels: String?
    private let log: Logger
    // Guarded by `lock`.
    private let lock = Mutex(())
    private var readers: [String: JournalReader] = [:]
    private var locations: [Key: [RecordSection: Location]] = [:]
    private var documentCounts: [Key: Int] = [:]
    private var warned: Set<String> = []

    /// The union as far as `authors` (by their numbers) are concerned. A journal made with other kernels than
    /// `kernels` is warned about.
    init(_ folder: StateFolder, authors: Set<Int>, kernels: String?, log: Logger) {
        (self.folder, self.authors, self.kernels, self.log) = (folder, authors, kernels, log)
    }

    /// Takes in what has been appended since, `fromOtherMachines` too. A batch found in several journals is taken
    /// from the first by name. Throws `FileError`.
    func refresh(fromOtherMachines: Bool = false) throws {
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
            let batches = try reader.newBatches(authors.contains)
            for batch in batches { add(batch, of: reader) }
            for message in reader.damage where warned.insert(path + message).inserted {
                log.warning("\(path): \(message); what is missing is computed again")
            }
            if let header = reader.header, let kernels, header.kernels != kernels, !batches.isEmpty,
                warned.insert(path).inserted
            {
                log.warning(
                    "\(path) was computed with \(header.kernels), not \(kernels): results may differ in last bits from a run on one kind of machine"
                )
            }
        }
    }

    /// Takes in a batch that `journal`, this process' own, has just got: what was written need not be read.
    func add(_ batch: JournalReader.Batch, of journal: JournalWriter) throws {
        try lock.withLock { _ in
            let path = journal.place.path
            // Where the file is gone, that is found when the author's files are to be made.
            guard let reader = try readers[path] ?? JournalReader(journal.place) else { return }
            readers[path] = reader
            reader.skip(to: journal.end)
            add(batch, of: reader)
        }
    }

    private func add(_ batch: JournalReader.Batch, of reader: JournalReader) {
        let key = Key(author: batch.author, batch: batch.batch)
        for (section, range) in batch.sections {
            if case .features(let hook) = section {
                // Of another run that is being refused, or will be.
                let name = hook.description
                guard reader.header?.saes[name] == folder.configuration.saes[name] else { continue }
            }
            if let known = locations[key]?[section], known.reader.path <= reader.path { continue }
            locations[key, default: [:]][section] = Location(reader: reader, range: range)
            if section == .documents { documentCounts[key] = batch.documents }
        }
    }

    /// Whether batch `batch` of author `author`, of `documents` documents, is there with `hooks`.
    func has(author: Int, batch: Int, documents: Int, hooks: [HookPoint]) -> Bool {
        let key = Key(author: author, batch: batch)
        return lock.withLock { _ in
            guard let sections = locations[key], documentCounts[key] == documents else {
                return false
            }
            return sections[.documents] != nil
                && hooks.allSatisfy { sections[.features($0)] != nil }
        }
    }

    /// Whether batch `batch` of author `author` was computed in parts.
    func isDivided(author: Int, batch: Int) -> Bool {
        lock.withLock { _ in
            locations[Key(author: author, batch: batch)]?[.division] != nil
        }
    }

    /// The bytes of one section, or the first `count` of them. Throws `FileError`.
    func read(
        _ section: RecordSection, author: Int, batch: Int, first count: Int = .max
    ) throws -> [UInt8] {
        try lock.withLock { _ in
            let location = locations[Key(author: author, batch: batch)]![section]!
            guard let bytes = try location.reader.read(location.range.prefix(count)) else {
                throw FileError("read", location.reader.path, code: EIO)
            }
            return bytes
        }
    }
}

/// One author's batches in a union that has them all.
struct AuthorJournal {
    let union: JournalUnion
    /// The author's place in the plan's order.
    let number: Int
    let batchCount: Int

    /// Whether batch `batch` was computed in parts for want of memory.
    func isDivided(_ batch: Int) -> Bool { union.isDivided(author: number, batch: batch) }

    func documents(of batch: Int) throws -> [DocumentRecord] {
        BatchRecord.decodeDocuments(try union.read(.documents, author: number, batch: batch))
    }

    /// How many features fired.
    func firingCount(_ hook: HookPoint, of batch: Int) throws -> Int {
        BatchRecord.decodeFiringCount(
            try union.read(
                .features(hook), author: number, batch: batch,
                first: BatchRecord.featuresHeadSize))
    }

    func features(_ hook: HookPoint, of batch: Int, values: ActivationValues) throws -> SparseRows {
        BatchRecord.decodeFeatures(
            try union.read(.features(hook), author: number, batch: batch), values: values)
    }
}
