// The format of journals. A journal stores the finished batches of one process until their author's files are
// written. So memory use does not grow with the corpus, and finished batches survive the end of the process.
//
// A journal is the signature "SAEJRNL1", then frames. A frame is a head of 32 bytes, then a payload. The payload of
// the first frame is the journal's header as JSON. The payload of each later frame is one batch. All numbers are
// little-endian. The head of a frame has these fields:
//   u32 0x46454153   u32 author   u32 batch   u32 documents   u64 length of the payload   u32 CRC-32 of the payload
//   u32 CRC-32 of the 28 bytes before
//
// The payload of a batch is a table, then the sections (see BatchRecord+Sections.swift). The table has these fields:
//   u32 number of sections
//   for each section: i32 layer (-1: documents, -2: division)   u32 site   u64 length
//
// The file appears together with its header. Each frame is appended by one write. After `append`, the frame survives
// the end of the process. After a synchronization, it also survives a crash of the machine. The file is synchronized
// every five seconds while batches are appended, before an author's files are made, and at the end.

import Files
import Hooks
import RunFiles

/// The header of a journal.
package struct JournalHeader: Codable, Equatable {
    /// By the hook's name: the SAE of the batches, as `AuthorReceipt.sae` describes it.
    var saes: [String: String]
    /// The author's files for which the batches are computed.
    var items: [OutputItem]
    /// The name of the kernels that computed the batches.
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

/// The head of a frame. In the frame with the journal's header, `author` and `batch` are `UInt32.max`.
struct FrameHead: Equatable {
    static let size = 32
    private static let magic: UInt32 = 0x4645_4153

    /// The index of the author in the plan's order, from 0.
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

/// The table of sections at the start of a batch's payload.
enum SectionTable {
    private static let entrySize = 16

    /// Returns the table of `sections`. In the payload, the sections follow the table.
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

    /// Decodes a payload that starts at byte `offset` of the file. Returns the byte range of each section in the
    /// file, and the number of rows of the batch. Nil if the table or a section is invalid, if the batch does not
    /// have `documents` documents, or if the sections have different numbers of rows.
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
