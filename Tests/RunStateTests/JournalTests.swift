// Tests of journals: records are read back, also from damaged journals. Also tests of the space that overwriting
// frees, and of two configurations in one folder.

import Files
import Foundation
import Hooks
import Logging
import RunFiles
import Tensors
import TestSupport
import Testing
import Threading
import Tokenization

@testable import RunState

struct JournalTests {
    private let run: SmallRun
    private let state: StateFolder
    private let hook = HookPoint(layer: 3, site: .att)
    private let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    private let threads = try! ThreadPool(threadCount: 2)

    init() throws {
        run = try SmallRun(hook: hook)
        var state = run.state()
        try state.open()
        self.state = state
    }

    private func record(_ i: Int) -> BatchRecord {
        BatchRecord(
            documents: [
                DocumentRecord(
                    tokens: [5, 6, Int32(i)], crossEntropy: [1, 2, 3], entropy: [0, 0.5, 1]),
                DocumentRecord(tokens: [], crossEntropy: [], entropy: []),
            ],
            features: [
                hook: SparseRows(
                    starts: [0, 1, 1, 3], columns: [7, 0, Int32(i + 1)], values: [1, 1, 1])
            ])
    }

    /// Returns the token sequences of the documents in `record(i)`, as a run tokenizes them from the corpus.
    private func sequences(_ i: Int) -> ArraySlice<TokenSequence> {
        record(i).documents.map { TokenSequence(tokens: $0.tokens, isTruncated: false) }[...]
    }

    private func limits(_ values: ActivationValues = .binary) -> RecordLimits {
        RecordLimits(values: values, threshold: 0.5, widths: [hook: 1024])
    }

    private func author(
        _ union: JournalUnion, _ count: Int, first: Int = 0
    ) throws -> AuthorJournal {
        try AuthorJournal(union, number: 4, batches: (0..<count).map { sequences(first + $0) })
    }

    /// Writes a journal with the batches 0 ..< `count` of author 4. Batch i has the content `record(first + i)`.
    @discardableResult
    private func journal(
        _ count: Int, first: Int = 0, values: ActivationValues = .binary
    ) throws -> JournalWriter {
        let journal = try JournalWriter(
            directory: state.directory,
            header: JournalHeader(
                saes: state.settings.saes, items: [], kernels: "k", host: "a-b.c", process: 1))
        for i in 0..<count {
            try journal.append(
                author: 4, batch: i, documents: 2,
                record(first + i).sections(values: values, on: threads))
        }
        return journal
    }

    private func union(
        _ authors: Set<Int> = [4], values: ActivationValues = .binary
    ) throws -> JournalUnion {
        let limits = limits(values)
        let union = JournalUnion(state, authors: authors, kernels: nil, log: log) { limits }
        try union.refresh()
        return union
    }

    private func present(_ union: JournalUnion, _ count: Int) throws -> [Int] {
        try (0..<count).filter {
            try union.has(author: 4, batch: $0, sequences($0), hooks: [hook])
        }
    }

    @Test(arguments: ActivationValues.allCases)
    func recordsComeBack(values: ActivationValues) throws {
        try journal(3, values: values)
        let union = try union(values: values)
        #expect(try present(union, 5) == [0, 1, 2])
        let author = try author(union, 3)
        for i in [2, 0, 1] {
            #expect(try author.documents(of: i) == record(i).documents)
            #expect(try author.features(hook, of: i) == record(i).features[hook])
        }
        // The journal has no batch of another hook or of another author.
        #expect(
            try !union.has(
                author: 4, batch: 0, sequences(0), hooks: [HookPoint(layer: 3, site: .res)]))
        #expect(try !union.has(author: 3, batch: 0, [], hooks: []))
        #expect(
            try present(try self.union([3], values: values), 3) == [],
            "of authors that are not asked for")
    }

    /// Checks that a worker notices if its journal was removed. Its batches must then not count as finished, because
    /// other processes cannot read them.
    @Test func aJournalThatIsNotInItsPlaceIsNoticed() throws {
        let journal = try journal(1)
        try journal.checkInPlace()
        let bytes = try TestData.bytes(journal.place.path)
        try FileManager.default.removeItem(atPath: journal.place.path)
        let error = #expect(throws: StateRemovedError.self) { try journal.checkInPlace() }
        #expect(error?.path == journal.place.path)
        // A copy at the same path is another file, so the journal must still count as removed.
        try TestData.write(bytes, to: journal.place.path)
        #expect(throws: StateRemovedError.self) { try journal.checkInPlace() }
    }

    /// Checks that a new journal has its header as soon as it exists, and that no temporary file remains beside it.
    @Test func aJournalAppearsWithItsHeader() throws {
        let journal = try journal(0)
        #expect(try JournalReader(journal.place)?.header?.kernels == "k")
        let others = try directoryContents(state.directory.path).filter {
            !$0.hasSuffix(".journal")
        }
        #expect(others == ["configuration.json", "generation"])
    }

    /// Checks that an open journal stays readable after another process has removed its file. This happens when all
    /// files of all authors are complete.
    @Test func aJournalThatGoesMeanwhileIsStillRead() throws {
        let journal = try journal(2)
        let union = try union()
        try FileManager.default.removeItem(atPath: journal.place.path)
        try union.refresh(fromOtherMachines: true)
        let author = try author(union, 2)
        #expect(try author.documents(of: 1) == record(1).documents)
    }

    @Test func aGrowingJournalIsFollowed() throws {
        let journal = try journal(1)
        let union = try union()
        #expect(try present(union, 3) == [0])
        try journal.append(
            author: 4, batch: 2, documents: 2, record(2).sections(values: .binary, on: threads))
        #expect(try present(union, 3) == [0])
        try union.refresh()
        #expect(try present(union, 3) == [0, 2])
        try journal.append(
            author: 4, batch: 1, documents: 2, record(1).sections(values: .binary, on: threads))
        try union.refresh(fromOtherMachines: true)
        #expect(try present(union, 3) == [0, 1, 2])
    }

    @Test func ofTwoJournalsTheFirstByNameCounts() throws {
        for (name, count, first) in [("b", 3, 0), ("a", 2, 10)] {
            try FileManager.default.moveItem(
                atPath: try journal(count, first: first).place.path,
                toPath: "\(state.directory.path)/\(name).journal")
        }
        let union = try union()
        for (batch, record) in [10, 11, 2].enumerated() {
            #expect(try union.has(author: 4, batch: batch, sequences(record), hooks: [hook]))
        }
    }

    /// Checks three journals with the same batches. Only the second journal has the documents of the corpus, so its
    /// batches must count.
    @Test func ofTwoJournalsTheOneOfTheseDocumentsCounts() throws {
        for (name, first) in [("a", 10), ("b", 0), ("c", 20)] {
            try FileManager.default.moveItem(
                atPath: try journal(2, first: first).place.path,
                toPath: "\(state.directory.path)/\(name).journal")
        }
        let union = try union()
        #expect(try present(union, 2) == [0, 1])
        let author = try author(union, 2)
        #expect(try author.documents(of: 1) == record(1).documents)
        #expect(try author.features(hook, of: 1).rowCount == 3)
    }

    /// Checks that a batch is ignored if it has other tokens than the corpus, or more or fewer documents.
    @Test func batchesOfOtherDocumentsAreDamaged() throws {
        try journal(3)
        var other = Array(sequences(0))
        other[0].tokens[1] = 2_000_000_000
        let others: [ArraySlice<TokenSequence>] = [
            other[...], sequences(0).dropLast(), sequences(0) + sequences(1), [],
        ]
        for wrong in others {
            let union = try union()
            #expect(try !union.has(author: 4, batch: 0, wrong, hooks: [hook]))
            // A batch that was refused once must stay refused.
            #expect(try present(union, 3) == [1, 2])
        }
    }

    /// Checks a journal that changes while it is read. The error must name the journal.
    @Test func aJournalThatChangesMeanwhileIsNamed() throws {
        let path = try journal(2).place.path
        let union = try union()
        #expect(try present(union, 2) == [0, 1])
        let author = try author(union, 2)
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
        let size = fileSize(path)
        try file.seek(toOffset: UInt64(size - 200))
        try file.write(contentsOf: [UInt8](repeating: 0xFF, count: 200))
        #expect(throws: JournalChangedError.self) { try author.features(hook, of: 1) }
        #expect(throws: JournalChangedError.self) { try author.documents(of: 1) }
        #expect(try author.firingCount(hook, of: 1) == 3)
        try file.truncate(atOffset: 60)
        let error = #expect(throws: JournalChangedError.self) { try author.documents(of: 0) }
        #expect(error?.description.contains("\(path): batch 0 of author 4") == true)
    }

    @Test func aTornLastRecordIsNotThere() throws {
        let path = try journal(3).place.path
        let bytes = try TestData.bytes(path)
        // All records here have the same size, so the difference of two journals is the size of one record.
        let two = try journal(2).place.path
        let size = bytes.count - (try TestData.bytes(two).count)
        try FileManager.default.removeItem(atPath: two)
        for cut in [1, 20, size - FrameHead.size, size - 5, size] {
            try TestData.write(bytes.dropLast(cut), to: path)
            #expect(try present(try union(), 3) == [0, 1], "cut by \(cut)")
        }
    }

    /// Checks that a wrong byte anywhere in a journal costs at least one record, and gives no wrong record.
    @Test func anyWrongByteCostsRecordsOnly() throws {
        let path = try journal(3).place.path
        let bytes = try TestData.bytes(path)
        var kept = Set<[Int]>()
        for position in bytes.indices {
            var damaged = bytes
            damaged[position] ^= 0x10
            try TestData.write(damaged, to: path)
            let union = try union()
            let found = try present(union, 3)
            let author = try author(union, 3)
            for i in found { #expect(try author.documents(of: i) == record(i).documents) }
            #expect(found.count < 3, "byte \(position) is not protected")
            kept.insert(found)
        }
        // A wrong payload costs its record. A wrong frame head also costs the records after it.
        #expect(kept.isSuperset(of: [[], [0], [0, 1], [1, 2], [0, 2]]))
    }

    @Test func anEmptyOrForeignFileIsNoJournal() throws {
        try TestData.write([], to: state.directory.path + "/a.journal")
        try TestData.write(
            "not one of ours, but long enough to be one".utf8,
            to: state.directory.path + "/b.journal")
        try journal(1)
        #expect(try present(try union(), 1) == [0])
    }

    /// Checks that records with valid checksums but invalid sections are ignored. Another version of the program may
    /// have written them.
    @Test func whatIsNoRecordIsNoBatch() throws {
        let journal = try journal(1)
        var sections = record(0).sections(values: .binary, on: threads)
        sections.sort { $0.section == .documents && $1.section != .documents }
        let (documents, features) = (sections[0].bytes, sections[1].bytes)
        func number(_ value: Int64) -> [UInt8] { withUnsafeBytes(of: value, Array.init) }
        func column(_ value: Int32) -> [UInt8] { withUnsafeBytes(of: value, Array.init) }
        let wrong: [(RecordSection, [UInt8])] = [
            (.documents, []), (.documents, number(1)), (.documents, number(-1)),
            (.documents, number(.max)), (.documents, documents + [0]),
            (.documents, Array(documents.dropLast())),
            (.documents, number(1) + number(.max) + documents),
            (.division, []), (.division, number(2) + [0]),
            (.features(hook), []), (.features(hook), Array(features.prefix(16))),
            (.features(hook), Array(features.dropLast())), (.features(hook), features + [0]),
            (.features(hook), number(-1) + features.dropFirst(8)),
            (.features(hook), number(.max) + features.dropFirst(8)),
            // Row starts that are out of range, decrease, do not begin at 0, or do not end at the number of entries.
            // Also a number of entries that is too large.
            (.features(hook), features.prefix(24) + number(5) + features.dropFirst(32)),
            (.features(hook), features.prefix(16) + number(1) + features.dropFirst(24)),
            (.features(hook), features.prefix(40) + number(2) + features.dropFirst(48)),
            (.features(hook), features.prefix(24) + number(-1) + features.dropFirst(32)),
            (.features(hook), features.prefix(24) + number(1 << 40) + features.dropFirst(32)),
            (.features(hook), features.prefix(8) + number(1 << 61) + features.dropFirst(16)),
            // Columns out of range, or in descending order.
            (.features(hook), features.prefix(48) + column(1 << 30) + features.dropFirst(52)),
            (.features(hook), features.prefix(48) + column(-5) + features.dropFirst(52)),
            (.features(hook), features.prefix(48) + column(1024) + features.dropFirst(52)),
            (.features(hook), features.prefix(52) + column(1) + features.dropFirst(56)),
            // Fewer rows than tokens.
            (.features(hook), number(0) + number(0) + number(0)),
            // A NaN as a cross-entropy, and then a negative cross-entropy.
            (.documents, documents.prefix(28) + [0xFF, 0x7F] + documents.dropFirst(30)),
            (.documents, documents.prefix(28) + [0, 0xC0] + documents.dropFirst(30)),
            (.documents, number(1 << 60) + documents.dropFirst(8)),
            (.documents, documents.prefix(8) + number(1 << 60) + documents.dropFirst(16)),
            (.division, number(1)), (.division, number(-3)),
        ]
        for (i, (section, bytes)) in wrong.enumerated() {
            // The other sections of the record are valid.
            let rest = sections.filter { $0.section != section }
            try journal.append(
                author: 4, batch: 1 + i, documents: 2, rest + [EncodedSection(section, bytes)])
        }
        // Three invalid records: without documents, with a section twice, and with another number of documents than
        // in the frame head.
        for (i, sections) in [[sections[1]], sections + [sections[1]], sections].enumerated() {
            try journal.append(author: 4, batch: 90 + i, documents: i == 2 ? 3 : 2, sections)
        }
        try journal.append(author: 4, batch: 100, documents: 2, sections)
        let reader = try #require(try JournalReader(journal.place))
        #expect(try reader.newBatches(limits()) { $0 == 4 }.map(\.batch) == [0, 100])
        #expect(reader.damage.count == wrong.count + 3)
        // A reader that does not want this author reads only the frame heads of its records. So it finds no damage.
        let other = try #require(try JournalReader(journal.place))
        #expect(try other.newBatches(limits()) { $0 == 3 }.isEmpty && other.damage.isEmpty)
    }

    /// Checks that a record is ignored if one of its activations is not finite or is not above the threshold.
    @Test func activationsThatCannotBeAreNone() throws {
        let journal = try journal(0)
        for (i, value) in [0.75, 0.5, 0, -1, Float.nan, .infinity].enumerated() {
            var record = record(0)
            record.features[hook]!.values[1] = value
            try journal.append(
                author: 4, batch: i, documents: 2, record.sections(values: .raw, on: threads))
        }
        let reader = try #require(try JournalReader(journal.place))
        #expect(try reader.newBatches(limits(.raw)) { _ in true }.map(\.batch) == [0])
        // For a run that stores binary values, all of these records are invalid.
        let other = try #require(try JournalReader(journal.place))
        #expect(try other.newBatches(limits(.binary)) { _ in true }.isEmpty)
    }

    @Test(arguments: [0, 32, 1000])
    func aFrameLongerThanAnyFileIsNotWaitedFor(less: Int) throws {
        let path = try journal(1).place.path
        let size = try #require(try JournalReader(GuardedPath(file: path))).size(ofAuthors: [4])
        let head = FrameHead(author: 4, batch: 1, documents: 2, length: .max - less, crc: 0)
        try TestData.write(try TestData.bytes(path) + head.encoded, to: path)
        for author in [3, 4] {
            let reader = try #require(try JournalReader(GuardedPath(file: path)))
            #expect(try reader.size(ofAuthors: [author]) == (author - 3) * size)
            #expect(try reader.newBatches(limits()) { $0 == author }.count == author - 3)
        }
    }

    // MARK: Space on the disk

    /// Checks that only whole frames of the given authors are counted, without the journal's header.
    @Test func theFramesOfAuthorsAreCounted() throws {
        let path = try journal(3).place.path
        let frames = try state.journalBytes(ofAuthors: [4])
        #expect(frames > 3 * FrameHead.size && frames < fileSize(path))
        #expect(try state.journalBytes(ofAuthors: [0, 1, 2, 3]) == 0)
    }

    @Test func whatOverwritingRemovesIsRoom() throws {
        let before = try state.clearableBytes(run.files)
        let path = try journal(2).place.path
        let names = [
            run.files.naming.file(.tokens, author: run.files.authors[0].name),
            run.files.naming.activations(
                hook, author: run.files.authors[1].name, isSparse: true),
        ]
        for name in names { try run.folder.write(repeatElement(1, count: 5000), name) }
        try run.folder.write(repeatElement(1, count: 7000), "somebody's.txt")
        #expect(try state.clearableBytes(run.files) == before + 10_000 + fileSize(path))
        #expect(try state.clear(run.files) == 0)
        #expect(try state.clearableBytes(run.files) == 0)
        #expect(fileExists(run.folder.file("somebody's.txt")))
        #expect(!names.contains { fileExists(run.folder.file($0)) } && !fileExists(path))
    }

    // MARK: Two configurations

    /// Checks that a later run takes over the claim of an earlier run only while the earlier run has no results.
    @Test func aClaimIsTakenOnlyWhereNothingIs() throws {
        var (state, other) = (state, run.state(threshold: 2))
        try state.checkClaim()
        try other.open()
        try other.checkClaim()
        let error = #expect(throws: ConfigurationConflict.self) { try state.checkClaim() }
        #expect(
            error?.differences == ["--feature_threshold: 2.0 in the other run, 1.0 in this run"])
        #expect(error?.description.contains("has begun in \(run.folder.path) since") == true)
        try state.open()
        try state.checkClaim()
        #expect(throws: ConfigurationConflict.self) { try other.checkClaim() }
        // When the first run has results, the other run can neither begin nor take over the claim.
        try journal(1)
        #expect(throws: ConfigurationConflict.self) { try other.check() }
        #expect(throws: ConfigurationConflict.self) { try other.open() }
        try state.checkClaim()
    }
}
