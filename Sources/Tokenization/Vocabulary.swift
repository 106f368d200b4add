// Token pieces by id and ids by piece, both by bytes: Swift's String equality would merge 61 pairs of
// Gemma's pieces that are canonically equivalent.

/// An immutable table of pieces.
struct Vocabulary: Sendable {
    /// All pieces' bytes end to end.
    private let bytes: [UInt8]
    /// Where piece `id` lies in `bytes`; empty for an id that is not used.
    private let ranges: [Range<Int>]
    /// Open addressing: ids, -1 for a free slot. Its size is a power of two, at most half full.
    private let slots: [Int32]

    /// Why a list of pieces makes no vocabulary.
    struct Problem: Error {
        let reason: String
        /// Whether the tokenizer is sound, but another than Gemma's.
        var isAboutKind = false
    }

    /// Bytes of the longest piece or added token that is read. Gemma's longest has 93; a text is compared with them from each of
    /// its places on.
    static let longestPiece = 256

    /// Where hashes begin: in each process elsewhere, so that no file can have all of its pieces in one place of the table.
    private static let seed = UInt64.random(in: .min ... .max)
    private let seed = Vocabulary.seed

    /// The number of ids, used or not.
    var count: Int { ranges.count }

    /// Builds the table from pieces that lie at `ranges` within `bytes`. Throws where two pieces are equal,
    /// two ids are equal, an id is out of bounds, or a piece is not UTF-8.
    init(bytes: [UInt8], pieces: [(range: Range<Int>, id: Int)]) throws(Problem) {
        var ranges = [Range<Int>](repeating: 0..<0, count: (pieces.map(\.id).max() ?? -1) + 1)
        var capacity = 16
        while capacity < 2 * pieces.count { capacity *= 2 }
        var slots = [Int32](repeating: -1, count: capacity)
        for (range, id) in pieces {
            guard !range.isEmpty else { throw Problem(reason: "piece \(id) is empty") }
            guard ranges[id].isEmpty else { throw Problem(reason: "id \(id) is there twice") }
            ranges[id] = range
            let slot = bytes.withUnsafeBufferPointer { all in
                Vocabulary.slot(
                    of: UnsafeBufferPointer(rebasing: all[range]), slots, ranges, all,
                    Vocabulary.seed)
            }
            guard slots[slot] < 0 else {
                let piece = String(decoding: bytes[range], as: UTF8.self)
                throw Problem(reason: "piece '\(piece)' is there twice")
            }
            slots[slot] = Int32(id)
        }
        try Vocabulary.checkUTF8(bytes, pieces)
        self.bytes = bytes
        self.ranges = ranges
        self.slots = slots
    }

    /// Fails where a piece is not whole characters: texts are taken apart at pieces, and into them again at characters.
    private static func checkUTF8(
        _ bytes: [UInt8], _ pieces: [(range: Range<Int>, id: Int)]
    ) throws(Problem) {
        // All at once, where none begins within a character.
        let areApart = pieces.allSatisfy { bytes[$0.range.lowerBound] & 0xC0 != 0x80 }
        guard !areApart || String(validating: bytes, as: UTF8.self) == nil else { return }
        for (range, id) in pieces where String(validating: bytes[range], as: UTF8.self) == nil {
            throw Problem(reason: "piece \(id) is not valid UTF-8")
        }
    }

    /// The bytes of piece `id`.
    func piece(_ id: TokenID) -> ArraySlice<UInt8> { bytes[ranges[Int(id)]] }

    /// The id of `piece`, nil where there is none.
    func id(of piece: UnsafeBufferPointer<UInt8>) -> TokenID? {
        let id = bytes.withUnsafeBufferPointer {
            slots[Vocabulary.slot(of: piece, slots, ranges, $0, seed)]
        }
        return id < 0 ? nil : id
    }

    /// The id of `piece`, nil where there is none.
    func id(of piece: [UInt8]) -> TokenID? {
        piece.withUnsafeBufferPointer { id(of: $0) }
    }

    /// The slot that holds `piece`, or the free one where it belongs.
    private static func slot(
        of piece: UnsafeBufferPointer<UInt8>, _ slots: [Int32], _ ranges: [Range<Int>],
        _ bytes: UnsafeBufferPointer<UInt8>, _ seed: UInt64
    ) -> Int {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: hash(piece, seed)) & mask
        while slots[slot] >= 0 {
            let range = ranges[Int(slots[slot])]
            if range.count == piece.count,
                UnsafeBufferPointer(rebasing: bytes[range]).elementsEqual(piece)
            {
                return slot
            }
            slot = (slot + 1) & mask
        }
        return slot
    }

    /// FNV-1a, finished by a multiplication that brings the high bits down.
    private static func hash(_ piece: UnsafeBufferPointer<UInt8>, _ seed: UInt64) -> UInt64 {
        var hash = 0xCBF2_9CE4_8422_2325 ^ seed
        for byte in piece { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return hash ^ hash >> 29
    }
}
