// What a batch leaves behind: everything that the final files need of it.

import Files
import Hooks
import RunFiles
import Tensors
import Threading
import Tokenization

/// One document's share of a batch's results.
package struct DocumentRecord: Equatable {
    /// The output tokens, at most `T`.
    package var tokens: [TokenID]
    /// -log p of each output token, nats.
    package var crossEntropy: [Float16]
    /// Entropy of the prediction made at each output token, nats.
    package var entropy: [Float16]

    /// All properties, as given.
    package init(tokens: [TokenID], crossEntropy: [Float16], entropy: [Float16]) {
        self.tokens = tokens
        self.crossEntropy = crossEntropy
        self.entropy = entropy
    }
}

/// A finished batch. Rows of `features` are the output tokens of `documents`, end to end.
package struct BatchRecord: Equatable {
    /// The batch's documents.
    package var documents: [DocumentRecord]
    /// Firing features by hook.
    var features: [HookPoint: SparseRows]
    /// In how many parts it was computed: more than one where memory was short.
    package var parts: Int

    /// All properties, as given.
    package init(
        documents: [DocumentRecord], features: [HookPoint: SparseRows], parts: Int = 1
    ) {
        self.documents = documents
        self.features = features
        self.parts = parts
    }
}

/// The parts of a record that can be read by themselves.
package enum RecordSection: Hashable, Sendable {
    case documents
    /// There is one where the batch was computed in parts for want of memory: in how many.
    case division
    case features(HookPoint)
}

/// What the records of a run cannot go beyond.
package struct RecordLimits {
    /// What is stored of a feature that fires.
    var values: ActivationValues
    /// A feature fires above this.
    var threshold: Float
    /// Features of each hook's SAE (`d_sae`); of hooks that are not there any number.
    package var widths: [HookPoint: Int]

    /// All properties, as given.
    package init(values: ActivationValues, threshold: Float, widths: [HookPoint: Int]) {
        self.values = values
        self.threshold = threshold
        self.widths = widths
    }
}

/// A part of a record as it lies in a journal.
package struct EncodedSection: Sendable {
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
    package init(joining records: [BatchRecord]) {
        documents = records.flatMap(\.documents)
        features = [:]
        for hook in records[0].features.keys {
            features[hook] = SparseRows(joining: records.map { $0.features[hook]! })
        }
        parts = records.count
    }

    /// The record's sections, encoded by all of `threads`. Values are left out where they are all 1 (`binary`).
    package func sections(values: ActivationValues, on threads: ThreadPool) -> [EncodedSection] {
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

    /// How many rows `bytes` have, if they are a section of this kind that a run with `limits` can have written: as long as it
    /// says, its rows and columns in order and within the SAE's features, its numbers such as are computed. What a checksum
    /// cannot tell: another version, or somebody, may have written it. Documents have a row for each token; a division has
    /// none.
    static func rowCount(
        _ section: RecordSection, _ bytes: ArraySlice<UInt8>, _ limits: RecordLimits
    ) -> Int? {
        bytes.withUnsafeBytes { bytes in
            switch section {
            case .documents: tokenCount(bytes)
            case .division: bytes.count == 8 && bytes.number(0, Int64.self) > 1 ? 0 : nil
            case .features(let hook): featureRows(bytes, hook, limits)
            }
        }
    }

    private static func tokenCount(_ bytes: UnsafeRawBufferPointer) -> Int? {
        guard let documents = bytes.claimedCount(at: 0, of: 8) else { return nil }
        var (end, rows) = (8, 0)
        for _ in 0..<documents {
            // An Int32 and two Float16 each.
            guard let tokens = bytes.claimedCount(at: end, of: 8),
                8 * tokens <= bytes.count - end - 8
            else { return nil }
            let metrics = end + 8 + 4 * tokens
            for place in 0..<2 * tokens {
                // NaN is none either.
                guard bytes.number(metrics + 2 * place, Float16.self) >= 0 else { return nil }
            }
            end += 8 + 8 * tokens
            rows += tokens
        }
        return end == bytes.count ? rows : nil
    }

    private static func featureRows(
        _ bytes: UnsafeRawBufferPointer, _ hook: HookPoint, _ limits: RecordLimits
    ) -> Int? {
        guard let rows = bytes.claimedCount(at: 0, of: 8),
            let entries = bytes.claimedCount(at: 8, of: 4)
        else {
            return nil
        }
        let columns = featuresHeadSize + 8 * (rows + 1)
        let values = columns + 4 * entries
        guard bytes.count == values + (limits.values == .raw ? 4 * entries : 0) else { return nil }
        let width = Int32(clamping: limits.widths[hook] ?? .max)
        var end = 0
        for row in 0...rows {
            let next = bytes.number(featuresHeadSize + 8 * row, Int64.self)
            guard row > 0 ? next >= end && next <= entries : next == 0 else { return nil }
            var before: Int32 = -1
            for entry in end..<Int(next) {
                let column = bytes.number(columns + 4 * entry, Int32.self)
                guard column > before, column < width else { return nil }
                before = column
            }
            end = Int(next)
        }
        guard end == entries else { return nil }
        if limits.values == .raw {
            for entry in 0..<entries {
                let value = bytes.number(values + 4 * entry, Float.self)
                guard value > limits.threshold, value.isFinite else { return nil }
            }
        }
        return rows
    }

    /// The `documents` section back; `rowCount` must have found it one.
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

    /// The `documents` section `bytes` back, if it is one of these documents.
    static func documents(
        _ bytes: [UInt8], of sequences: ArraySlice<TokenSequence>
    ) -> [DocumentRecord]? {
        let limits = RecordLimits(values: .binary, threshold: 0, widths: [:])
        guard rowCount(.documents, bytes[...], limits) != nil else { return nil }
        let documents = decodeDocuments(bytes)
        let isSame = documents.elementsEqual(sequences) { $0.tokens == $1.tokens }
        return isSame ? documents : nil
    }

    /// Bytes of a `features` section before its rows.
    static let featuresHeadSize = 16

    /// How many entries a `features` section of `length` bytes and `rows` rows has, which `rowCount` has found to be one.
    static func firingCount(length: Int, rows: Int, values: ActivationValues) -> Int {
        (length - featuresHeadSize - 8 * (rows + 1)) / (values == .raw ? 8 : 4)
    }

    /// A `features` section back; `rowCount` must have found it one.
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
package struct BinaryEncoder {
    private(set) var bytes: [UInt8] = []

    mutating func append<Number: BitwiseCopyable>(_ numbers: [Number]) {
        numbers.withUnsafeBytes { bytes += $0 }
    }
}

package struct BinaryDecoder {
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

extension UnsafeRawBufferPointer {
    /// The number at `offset`, which lies within.
    @inline(__always)
    fileprivate func number<Number: BitwiseCopyable>(_ offset: Int, _: Number.Type) -> Number {
        loadUnaligned(fromByteOffset: offset, as: Number.self)
    }

    /// The number at `offset`, if it is there and counts something of at least `size` bytes each.
    fileprivate func claimedCount(at offset: Int, of size: Int) -> Int? {
        guard offset <= count - 8 else { return nil }
        let number = number(offset, Int64.self)
        return (0...Int64(count / size)).contains(number) ? Int(number) : nil
    }
}
