// Encodes, checks and decodes the sections of a batch record. Only bytes that a check has accepted may be decoded.

import Hooks
import RunFiles
import Tensors
import Threading
import Tokenization

extension BatchRecord {
    /// Joins the records of the parts of a batch, in order, into the record of the batch.
    package init(joining records: [BatchRecord]) {
        documents = records.flatMap(\.documents)
        features = [:]
        for hook in records[0].features.keys {
            features[hook] = SparseRows(joining: records.map { $0.features[hook]! })
        }
        parts = records.count
    }

    /// Returns the encoded sections. Encodes several hooks at a time on `threads`. With `binary`, all values are 1,
    /// and no values are stored.
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

    /// Checks a section and returns its number of rows: one per token, or 0 for a division. Nil if no run with
    /// `limits` can have written `bytes`, for example because a number is out of range. The checksum does not replace
    /// this check: another program may have written invalid bytes with a correct checksum.
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

    /// Checks a `documents` section and returns its number of tokens. Nil if the section is invalid.
    private static func tokenCount(_ bytes: UnsafeRawBufferPointer) -> Int? {
        guard let documents = bytes.claimedCount(at: 0, of: 8) else { return nil }
        var (end, rows) = (8, 0)
        for _ in 0..<documents {
            // Each token has 8 bytes: an Int32 and two Float16.
            guard let tokens = bytes.claimedCount(at: end, of: 8),
                8 * tokens <= bytes.count - end - 8
            else { return nil }
            let metrics = end + 8 + 4 * tokens
            for place in 0..<2 * tokens {
                // The comparison is false for NaN too.
                guard bytes.number(metrics + 2 * place, Float16.self) >= 0 else { return nil }
            }
            end += 8 + 8 * tokens
            rows += tokens
        }
        return end == bytes.count ? rows : nil
    }

    /// Checks a `features` section and returns its number of rows. Nil if the section is invalid.
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

    /// Decodes a `documents` section that `rowCount` has accepted.
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

    /// Checks and decodes a `documents` section. Nil if it is invalid, or if its tokens are not those of `sequences`.
    static func documents(
        _ bytes: [UInt8], of sequences: ArraySlice<TokenSequence>
    ) -> [DocumentRecord]? {
        let limits = RecordLimits(values: .binary, threshold: 0, widths: [:])
        guard rowCount(.documents, bytes[...], limits) != nil else { return nil }
        let documents = decodeDocuments(bytes)
        let isSame = documents.elementsEqual(sequences) { $0.tokens == $1.tokens }
        return isSame ? documents : nil
    }

    /// The number of bytes of a `features` section before the array of row starts.
    static let featuresHeadSize = 16

    /// Returns the number of features that fired, summed over all tokens of a `features` section. The section has
    /// `length` bytes and `rows` rows. `rowCount` must have accepted it.
    static func firingCount(length: Int, rows: Int, values: ActivationValues) -> Int {
        (length - featuresHeadSize - 8 * (rows + 1)) / (values == .raw ? 8 : 4)
    }

    /// Decodes a `features` section that `rowCount` has accepted.
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

extension UnsafeRawBufferPointer {
    /// Returns the number at `offset`. The caller must check that the number is within the buffer.
    @inline(__always)
    fileprivate func number<Number: BitwiseCopyable>(_ offset: Int, _: Number.Type) -> Number {
        loadUnaligned(fromByteOffset: offset, as: Number.self)
    }

    /// Returns the count that is stored at `offset`. Nil if it is outside the buffer or negative, or if that many
    /// elements of `size` bytes do not fit into the buffer.
    fileprivate func claimedCount(at offset: Int, of size: Int) -> Int? {
        guard offset <= count - 8 else { return nil }
        let number = number(offset, Int64.self)
        return (0...Int64(count / size)).contains(number) ? Int(number) : nil
    }
}
