// Finished batches wait on disk until their author's files are written, so that memory does not grow with
// the corpus and nothing finished is lost with the process.
//
// A journal belongs to the process that made it: "SAEJRNL1", then frames. A frame is a head of 32 bytes and a
// payload; the first holds the journal's header as JSON, each other one a batch. All numbers are little-endian:
//   u32 0x46454153   u32 author   u32 batch   u32 documents   u64 payload's length   u32 payload's CRC-32
//   u32 CRC-32 of the 28 bytes before
// A batch's payload is u32 number of sections; for each an i32 layer (-1: documents, -2: division), an u32 site and an
// u64 length; then the sections (see BatchRecord).
//
// The file appears with its header. A frame is one append, in the system's hands when `append` returns: it survives the
// process. It survives the machine once synchronized, which happens every five seconds, before an author's files are
// made, and at the end.

import AuthorReceipts
import Dispatch
import Files
import FoundationEssentials
import Glibc
import Hooks
import RunFiles
import Synchronization

/// What a journal says of itself.
package struct JournalHeader: Codable, Equatable {
    /// The SAE of each hook that its batches have.
    var saes: [String: String]
    /// The files that its batches are for.
    var items: [OutputItem]
    /// The kernels that computed it.
    var kernels: String
    var host: String
    var process: Int32

    /// All properties, as given.
    package init(
        saes: [String: String], items: [OutputItem], kernels: String, host: String, process: Int32
    ) {
        self.saes = saes
        self.items = items
        self.kernels = kernels
        self.host = host
        self.process = process
    }
}

/// A journal that somebody has changed while this run was at work with it.
public struct JournalChangedError: Error, Equatable, CustomStringConvertible {
    /// The journal.
    public let path: String
    let author: Int
    let batch: Int

    /// What happened and what to do.
    public var description: String {
        "\(path): batch \(batch) of author \(author) is not as it was when this run first read it: somebody has changed the journal; find out who did, then run the same command again to have the batch computed again"
    }
}

/// The head of a frame.
package struct FrameHead: Equatable {
    static let size = 32
    private static let magic: UInt32 = 0x4645_4153

    var author: UInt32
    var batch: UInt32
    /// The batch's documents; how many it should have follows from the plan.
    var documents: UInt32
    var length: Int
    var crc: UInt32

    var encoded: [UInt8] {
        var out: [UInt8] = []
        func append(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: value.littleEndian) { out += $0 }
        }
        append(FrameHead.magic)
        append(author)
        append(batch)
        append(documents)
        append(UInt64(length))
        append(crc)
        append(out.withUnsafeBytes { crc32($0) })
        return out
    }

    init(author: UInt32, batch: UInt32, documents: UInt32, length: Int, crc: UInt32) {
        (self.author, self.batch, self.documents) = (author, batch, documents)
        (self.length, self.crc) = (length, crc)
    }

    /// nil where `bytes` are not a head.
    init?(_ bytes: [UInt8]) {
        func number<N: FixedWidthInteger>(_ offset: Int, _: N.Type) -> N {
            bytes.withUnsafeBytes {
                N(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: N.self))
            }
        }
        guard bytes.count == FrameHead.size, number(0, UInt32.self) == FrameHead.magic,
            bytes[..<28].withUnsafeBytes({ crc32($0) }) == number(28, UInt32.self),
            let length = Int(exactly: number(16, UInt64.self))
        else { return nil }
        author = number(4, UInt32.self)
        batch = number(8, UInt32.self)
        documents = number(12, UInt32.self)
        self.length = length
        crc = number(24, UInt32.self)
    }
}

/// The journal that this process appends to.
package final class JournalWriter: @unchecked Sendable {
    static let signature = Array("SAEJRNL1".utf8)
    /// How long a batch may be without reaching the disk.
    private static let synchronizationInterval = Duration.seconds(5)

    package let place: GuardedPath
    private let descriptor: Int32
    /// Where the next frame begins.
    private(set) var end: Int
    private var lastSynchronization = ContinuousClock.now
    private let synchronizing: DispatchQueue?
    private let failure = Mutex<FileError?>(nil)

    /// Makes a journal in `directory`. Its name begins with the time, so that journals are in order by name. Throws
    /// `FileError`.
    ///
    /// With `isSynchronizedAside`, batches are brought to the disk every few seconds by a thread of its own.
    package init(
        directory: GuardedPath, header: JournalHeader, isSynchronizedAside: Bool = false
    ) throws {
        synchronizing = isSynchronizedAside ? DispatchQueue(label: "synchronizing") : nil
        let name = uniqueName(host: header.host, process: header.process)
        place = directory / "\(name).journal"
        let payload = Array(try JSONEncoder().encode(header))
        let head = FrameHead(
            author: .max, batch: .max, documents: 0, length: payload.count,
            crc: payload.withUnsafeBytes { crc32($0) })
        let start = JournalWriter.signature + head.encoded + payload
        descriptor = try OutputFile.makeKeepingOpen(place, begunIn: directory) {
            try $0.write(start)
        }
        end = start.count
        try directory.synchronize()
    }

    deinit { close(descriptor) }

    /// Appends a batch of the author at place `author` in the plan's order, and says where its sections lie.
    @discardableResult
    package func append(
        author: Int, batch: Int, documents: Int, _ sections: [EncodedSection]
    ) throws -> [RecordSection: Range<Int>] {
        let table = SectionTable.encode(sections)
        let crc = sections.reduce(table.withUnsafeBytes { crc32($0) }) {
            crc32($0, followedBy: $1.crc, count: $1.bytes.count)
        }
        let head = FrameHead(
            author: UInt32(author), batch: UInt32(batch), documents: UInt32(documents),
            length: sections.reduce(table.count) { $0 + $1.bytes.count }, crc: crc)
        var start = end + FrameHead.size + table.count
        var frame = head.encoded + table
        frame.reserveCapacity(FrameHead.size + head.length)
        for section in sections { frame += section.bytes }
        try append(frame)
        if ContinuousClock.now - lastSynchronization > JournalWriter.synchronizationInterval {
            lastSynchronization = .now
            if let synchronizing {
                // Linux reports a failed write once: it is kept for whoever asks next.
                synchronizing.async { [self] in
                    do throws(FileError) {
                        try synchronize()
                    } catch {
                        failure.withLock { $0 = error }
                    }
                }
            } else {
                try synchronize()
            }
        }
        var places: [RecordSection: Range<Int>] = [:]
        for section in sections {
            places[section.section] = start..<start + section.bytes.count
            start += section.bytes.count
        }
        return places
    }

    /// Returns once all batches are on the disk. From any thread.
    package func synchronize() throws(FileError) {
        if let error = failure.withLock({ $0 }) { throw error }
        guard synchronizeToDisk(descriptor, dataOnly: true) else {
            throw FileError("write", place.path)
        }
    }

    /// Fails where the file is not in its place any more, so that nobody else sees its batches. Throws
    /// `StateRemovedError`.
    package func checkInPlace() throws { try RunState.checkInPlace(descriptor, place) }

    private func append(_ bytes: [UInt8]) throws {
        do {
            try bytes.withUnsafeBytes { try writeAll($0, to: descriptor, path: place.path) }
            end += bytes.count
        } catch {
            // Half a frame would hide what a later one says.
            cutOff(descriptor, at: end)
            throw error
        }
    }
}

/// A journal as any process reads it, which may be growing.
package final class JournalReader {
    /// A batch found, and where its sections lie.
    struct Batch {
        var author: Int
        var batch: Int
        /// Rows of its features: its documents' tokens.
        var rows: Int
        var sections: [RecordSection: Range<Int>]
    }

    /// Bytes of the longest header that is read: a name for each file that a run makes of an author.
    private static let longestHeader = 1 << 26
    /// Bytes of the longest batch that is read: what the machine's memory cannot hold was not written by a run, or not for it.
    private static let longestBatch = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))

    let place: GuardedPath
    /// nil where it is damaged or not there yet.
    private(set) var header: JournalHeader?
    private var descriptor: Int32
    private var position = 0
    private(set) var damage: [String] = []

    /// Opens the journal at `place`; nil where there is none (any more). Throws `FileError`.
    init?(_ place: GuardedPath) throws(FileError) {
        self.place = place
        guard let opened = try place.open() else { return nil }
        descriptor = opened
        try readHeader()
    }

    deinit { close(descriptor) }

    /// The path, for messages.
    var path: String { place.path }

    /// Opens the file anew: a network file system then asks its server what other machines have appended. A file
    /// that has gone stays open. Throws `FileError`.
    func reopen() throws(FileError) {
        guard let new = try place.open() else { return }
        close(descriptor)
        descriptor = new
    }

    private func readHeader() throws(FileError) {
        guard header == nil, position == 0 else { return }
        let start = JournalWriter.signature.count
        guard let signature = try read(0..<start), signature == JournalWriter.signature,
            let bytes = try read(start..<start + FrameHead.size), let head = FrameHead(bytes),
            head.length <= JournalReader.longestHeader,
            let payload = try read(start + FrameHead.size, count: head.length),
            payload.withUnsafeBytes({ crc32($0) }) == head.crc
        else { return }
        header = try? JSONDecoder().decode(JournalHeader.self, from: Data(payload))
        position = start + FrameHead.size + head.length
    }

    /// The batches appended since the last call, as far as they are whole and a run with `limits` can have written them; of
    /// authors that `isWanted` refuses only the head is looked at.
    func newBatches(
        _ limits: RecordLimits, _ isWanted: (_ author: Int) -> Bool
    ) throws(FileError) -> [Batch] {
        try readHeader()
        guard header != nil else {
            if try isLongEnough(1), damage.isEmpty { damage.append("its header cannot be read") }
            return []
        }
        var batches: [Batch] = []
        while let bytes = try read(position..<position + FrameHead.size) {
            guard let head = FrameHead(bytes) else {
                // Where the next frame begins is not known any more.
                let message = "unreadable from byte \(position) on"
                if damage.last != message { damage.append(message) }
                break
            }
            let start = position + FrameHead.size
            let isTooLong = head.length > JournalReader.longestBatch
            guard isWanted(Int(head.author)), !isTooLong else {
                guard head.length <= Int.max - start, try isLongEnough(start + head.length) else {
                    break
                }
                if isTooLong, isWanted(Int(head.author)) {
                    damage.append(
                        "batch \(head.batch) of author \(head.author) has \(head.length) bytes, more than this machine's memory"
                    )
                }
                position = start + head.length
                continue
            }
            // Where the payload is not all there, the file is growing still, or torn.
            guard let payload = try read(start, count: head.length) else { break }
            if payload.withUnsafeBytes({ crc32($0) }) == head.crc,
                let (sections, rows) = SectionTable.decode(
                    payload, at: start, documents: head.documents, limits)
            {
                batches.append(
                    Batch(
                        author: Int(head.author), batch: Int(head.batch), rows: rows,
                        sections: sections))
            } else {
                damage.append("batch \(head.batch) of author \(head.author) is damaged")
            }
            position = start + head.length
        }
        return batches
    }

    /// Bytes of the frames of these authors' batches that are all there, by their heads. Throws `FileError`.
    func size(ofAuthors authors: Set<Int>) throws(FileError) -> Int {
        guard header != nil else { return 0 }
        var (start, total) = (position, 0)
        while let bytes = try read(start..<start + FrameHead.size), let head = FrameHead(bytes),
            head.length <= Int.max - start - FrameHead.size,
            try isLongEnough(start + FrameHead.size + head.length)
        {
            let size = FrameHead.size + head.length
            if authors.contains(Int(head.author)) { total += size }
            start += size
        }
        return total
    }

    /// Passes over what lies before `end`: its batches are known.
    func skip(to end: Int) { position = max(position, end) }

    private func isLongEnough(_ size: Int) throws(FileError) -> Bool {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw FileError("read", path) }
        return info.st_size >= size
    }

    private func read(_ start: Int, count: Int) throws(FileError) -> [UInt8]? {
        guard count <= Int.max - start, try isLongEnough(start + count) else { return nil }
        return try read(start..<start + count)
    }

    /// The bytes of `range`; nil where the file ends before.
    func read(_ range: Range<Int>) throws(FileError) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: range.count)
        var done = 0
        while done < range.count {
            let count = bytes.withUnsafeMutableBytes {
                pread(
                    descriptor, $0.baseAddress! + done, range.count - done,
                    off_t(range.lowerBound + done))
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileError("read", path) }
            if count == 0 { return nil }
            done += count
        }
        return bytes
    }
}

/// The table before a batch's sections.
private enum SectionTable {
    private static let entrySize = 16

    /// The table of `sections`, which follow it.
    static func encode(_ sections: [EncodedSection]) -> [UInt8] {
        var out = BinaryEncoder()
        out.append([UInt32(sections.count)])
        for section in sections {
            switch section.section {
            case .documents: out.append([Int32(-1), 0])
            case .division: out.append([Int32(-2), 0])
            case .features(let hook):
                out.append([Int32(hook.layer), Int32(Site.allCases.firstIndex(of: hook.site)!)])
            }
            out.append([UInt64(section.bytes.count)])
        }
        return out.bytes
    }

    /// Where each section lies in the file, for a payload of `documents` documents at `offset`, and how many rows its features
    /// have; nil where the table cannot be, or a section, or they do not go together.
    static func decode(
        _ payload: [UInt8], at offset: Int, documents: UInt32, _ limits: RecordLimits
    ) -> (sections: [RecordSection: Range<Int>], rows: Int)? {
        guard payload.count >= 4 else { return nil }
        var decoder = BinaryDecoder(payload)
        let count = Int(decoder.next(UInt32.self, count: 1)[0])
        guard count <= (payload.count - 4) / entrySize else { return nil }
        var start = 4 + count * entrySize
        var sections: [RecordSection: Range<Int>] = [:]
        var rowCounts: Set<Int> = []
        for _ in 0..<count {
            let place = decoder.next(Int32.self, count: 2)
            let length = decoder.next(UInt64.self, count: 1)[0]
            guard length <= UInt64(payload.count - start),
                place[0] < 0
                    ? place[0] >= -2 : Site.allCases.indices.contains(Int(place[1]))
            else { return nil }
            let section: RecordSection =
                place[0] < 0
                ? (place[0] == -1 ? .documents : .division)
                : .features(HookPoint(layer: Int(place[0]), site: Site.allCases[Int(place[1])]))
            let range = start..<start + Int(length)
            guard sections[section] == nil,
                let rows = BatchRecord.rowCount(section, payload[range], limits)
            else { return nil }
            if section != .division { rowCounts.insert(rows) }
            if section == .documents {
                var head = BinaryDecoder(Array(payload[range].prefix(8)))
                guard head.next(Int64.self, count: 1)[0] == documents else { return nil }
            }
            sections[section] = offset + range.lowerBound..<offset + range.upperBound
            start = range.upperBound
        }
        guard sections[.documents] != nil, rowCounts.count == 1 else { return nil }
        return (sections, rowCounts.first!)
    }
}
