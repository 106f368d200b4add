// The format of journals. A journal stores the finished batches of one process until their author's files are written. Memory
// therefore does not grow with the corpus, and finished batches survive the process.
//
// A journal is "SAEJRNL1" and then frames. A frame is a head of 32 bytes and a payload. The payload of the first frame is the
// journal's header as JSON; the payload of every other frame is a batch. All numbers are little-endian. The head:
//   u32 0x46454153   u32 author   u32 batch   u32 documents   u64 length of the payload   u32 CRC-32 of the payload
//   u32 CRC-32 of the 28 bytes before
// The payload of a batch: u32 number of sections; for each section i32 layer (-1: documents, -2: division), u32 site and
// u64 length; then the sections (see BatchRecord+Sections.swift).
//
// The file appears with its header. Each frame is one append. When `append` returns, the system has the frame, and it survives
// the process. A frame survives a crash of the machine once it is synchronized: every five seconds, before an author's files
// are made, and at the end.

import Files
import Hooks
import RunFiles

/// The header of a journal.
package struct JournalHeader: Codable, Equatable {
    /// The SAE of each hook of the batches, as `AuthorReceipt.sae` describes it, by the hook's name.
    var saes: [String: String]
    /// The author's files that the batches are for.
    var items: [OutputItem]
    /// The kernels that computed the batches.
    var kernels: String
    /// The name of the machine.
    var host: String
    /// The process ID.
    var process: Int32

    /// Creates the header of the journal of process `process` on `host`.
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

/// The head of a frame. For the frame of the header, `author` and `batch` are the largest `UInt32`.
struct FrameHead: Equatable {
    static let size = 32
    private static let magic: UInt32 = 0x4645_4153

    /// The author's place in the plan's order, from 0.
    var author: UInt32
    /// The index of the batch among the author's batches.
    var batch: UInt32
    /// The number of documents of the batch.
    var documents: UInt32
    /// The number of bytes of the payload.
    var length: Int
    /// The CRC-32 of the payload.
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

    /// Parses a head. Nil if `bytes` are not a head with a correct CRC-32.
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

/// The table at the start of a batch's payload.
enum SectionTable {
    private static let entrySize = 16

    /// Returns the table of `sections`. The sections follow it in the payload.
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

    /// Returns the byte range in the file of each section of a payload that starts at `offset`, and the number of rows of the
    /// batch. Nil if the table or a section is invalid, if the number of documents is not `documents`, or if the sections have
    /// different numbers of rows.
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
