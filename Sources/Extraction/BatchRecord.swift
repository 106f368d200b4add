// What a batch leaves behind: everything that the final files need of it.

import ArrayFiles
import Gemma2
import Tensors
import Tokenization

/// One document's share of a batch's results.
struct DocumentRecord: Equatable {
    /// The output tokens, at most `T`.
    var tokens: [TokenID]
    /// -log p of each output token, nats.
    var crossEntropy: [Float16]
    /// Entropy of the prediction made at each output token, nats.
    var entropy: [Float16]
}

/// A finished batch. Rows of `features` are the output tokens of `documents`, end to end.
struct BatchRecord: Equatable {
    /// The batch's documents.
    var documents: [DocumentRecord]
    /// Firing features by hook.
    var features: [HookPoint: SparseRows]
    /// In how many parts it was computed: more than one where memory was short.
    var parts = 1
}

/// The parts of a record that can be read by themselves.
enum RecordSection: Hashable, Sendable {
    case documents
    /// There is one where the batch was computed in parts for want of memory: in how many.
    case division
    case features(HookPoint)
}

/// A part of a record as it lies in a journal.
struct EncodedSection: Sendable {
    let section: RecordSection
    let bytes: [UInt8]
    /// CRC-32 of `bytes`.
    let crc: UInt32

    init(_ section: RecordSection, _ bytes: [UInt8]) {
        (self.section, self.bytes) = (section, bytes)
        crc = bytes.withUnsafeBytes { crc32($0) }
    }
}

extension BatchRecord {
    /// Records of a batch's parts, in order, as one.
    init(joining records: [BatchRecord]) {
        documents = records.flatMap(\.documents)
        features = [:]
        for hook in records[0].features.keys {
            features[hook] = SparseRows(joining: records.map { $0.features[hook]! })
        }
        parts = records.count
    }

    /// The record's sections, encoded by all of `threads`. Values are left out where they are all 1 (`binary`).
    func sections(values: ActivationValues, on threads: ThreadPool) -> [EncodedSection] {
        var head = BinaryEncoder()
        head.append([Int64(documents.count)])
        for document in documents {
            head.append([Int64(document.tokens.count)])
            head.append(document.tokens)
            head.append(document.crossEntropy)
            head.append(document.entropy)
        }
        var sections = [EncodedSection(.documents, head.bytes)]
        if parts > 1 {
            var division = BinaryEncoder()
            division.append([Int64(parts)])
            sections.append(EncodedSection(.division, division.bytes))
        }
        let hooks = Array(features)
        var encoded = [EncodedSection?](repeating: nil, count: hooks.count)
        encoded.withUnsafeMutableBufferPointer { encoded in
            nonisolated(unsafe) let encoded = encoded
            threads.forEach(hooks.count) { item, _ in
                let (hook, rows) = hooks[item]
                var body = BinaryEncoder()
                body.append([Int64(rows.rowCount), Int64(rows.columns.count)])
                body.append(rows.starts.map(Int64.init))
                body.append(rows.columns)
                if values == .raw { body.append(rows.values) }
                encoded[item] = EncodedSection(.features(hook), body.bytes)
            }
        }
        return sections + encoded.map { $0! }
    }

    /// Whether `bytes` are as many as a section of this kind says, and its rows in order, so that decoding cannot fail.
    /// Features may be with values or without.
    static func isWhole(_ section: RecordSection, _ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.withUnsafeBytes { bytes in
            /// The number at `offset`, if it is there and counts something of at least `size` bytes each.
            func count(_ offset: Int, of size: Int) -> Int? {
                guard offset <= bytes.count - 8 else { return nil }
                let count = bytes.loadUnaligned(fromByteOffset: offset, as: Int64.self)
                return (0...Int64(bytes.count / size)).contains(count) ? Int(count) : nil
            }
            switch section {
            case .documents:
                guard let documents = count(0, of: 8) else { return false }
                var end = 8
                for _ in 0..<documents {
                    // An Int32 and two Float16 each.
                    guard let tokens = count(end, of: 8) else { return false }
                    end += 8 + 8 * tokens
                }
                return end == bytes.count
            case .division: return bytes.count == 8
            case .features:
                guard let rows = count(0, of: 8), let entries = count(8, of: 4) else {
                    return false
                }
                let columns = featuresHeadSize + 8 * (rows + 1)
                guard [columns + 4 * entries, columns + 8 * entries].contains(bytes.count) else {
                    return false
                }
                var before = 0
                for row in 0...rows {
                    let start = bytes.loadUnaligned(
                        fromByteOffset: featuresHeadSize + 8 * row, as: Int64.self)
                    guard start >= before, row > 0 || start == 0 else { return false }
                    before = Int(start)
                }
                return before == entries
            }
        }
    }

    /// The `documents` section back.
    static func decodeDocuments(_ bytes: [UInt8]) -> [DocumentRecord] {
        var decoder = BinaryDecoder(bytes)
        let count = decoder.next(Int64.self, count: 1)[0]
        return (0..<count).map { _ in
            let count = Int(decoder.next(Int64.self, count: 1)[0])
            return DocumentRecord(
                tokens: decoder.next(TokenID.self, count: count),
                crossEntropy: decoder.next(Float16.self, count: count),
                entropy: decoder.next(Float16.self, count: count))
        }
    }

    /// Bytes of a `features` section before its rows.
    static let featuresHeadSize = 16

    /// How many entries a `features` section has, by its head.
    static func decodeFiringCount(_ head: [UInt8]) -> Int {
        var decoder = BinaryDecoder(head)
        return Int(decoder.next(Int64.self, count: 2)[1])
    }

    /// A `features` section back.
    static func decodeFeatures(_ bytes: [UInt8], values: ActivationValues) -> SparseRows {
        var decoder = BinaryDecoder(bytes)
        let header = decoder.next(Int64.self, count: 2)
        let starts = decoder.next(Int64.self, count: Int(header[0]) + 1).map(Int.init)
        let columns = decoder.next(Int32.self, count: Int(header[1]))
        let stored =
            values == .raw
            ? decoder.next(Float.self, count: columns.count)
            : Array(repeating: 1, count: columns.count)
        return SparseRows(starts: starts, columns: columns, values: stored)
    }
}

/// Arrays of plain numbers end to end, as they lie in memory.
struct BinaryEncoder {
    private(set) var bytes: [UInt8] = []

    mutating func append<Number: BitwiseCopyable>(_ numbers: [Number]) {
        numbers.withUnsafeBytes { bytes += $0 }
    }
}

struct BinaryDecoder {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    mutating func next<Number: BitwiseCopyable>(_: Number.Type, count: Int) -> [Number] {
        let size = count * MemoryLayout<Number>.stride
        defer { position += size }
        return [Number](unsafeUninitializedCapacity: count) { out, initialized in
            bytes[position..<position + size].withUnsafeBytes {
                UnsafeMutableRawBufferPointer(out).copyMemory(from: $0)
            }
            initialized = count
        }
    }
}
