// Finds pieces by id and ids by piece. Pieces are compared as bytes, because 61 pairs of Gemma's pieces differ only
// in their Unicode form. Swift's string comparison would take them for equal.

/// An immutable table that maps ids to pieces and pieces to ids.
struct Vocabulary: Sendable {
    /// The bytes of all pieces, end to end.
    private let bytes: [UInt8]
    /// The range of piece `id` in `bytes`; empty if the id is not used.
    private let ranges: [Range<Int>]
    /// A hash table with open addressing. A slot has an id, or -1 if it is free. The number of slots is a power of
    /// two, and at most half of them are used.
    private let slots: [Int32]

    /// The reason why a tokenizer's file was refused, without the file's name.
    struct Problem: Error {
        let reason: String
        /// Whether the file is valid but describes another tokenizer than Gemma's.
        var isAboutKind = false
    }

    /// The maximum length of a piece or added token in bytes; Gemma's longest has 93. There is a limit because added
    /// tokens are searched at each position of a text, so long ones take more time.
    static let longestPiece = 256

    /// The start value of the hash function. It is random in each process, so that nobody can make a file whose
    /// pieces all collide.
    private static let seed = UInt64.random(in: .min ... .max)
    private let seed = Vocabulary.seed

    /// One more than the largest id. Smaller ids may be unused.
    var count: Int { ranges.count }

    /// Builds the table from `pieces`: `range` is a piece's range in `bytes`, and `id` is not negative. Throws if a
    /// piece is empty or not UTF-8, or if two pieces or two ids are equal.
    init(bytes: [UInt8], pieces: [(range: Range<Int>, id: Int)]) throws(Problem) {
        var ranges = [Range<Int>](repeating: 0..<0, count: (pieces.map(\.id).max() ?? -1) + 1)
        var capacity = 16
        while capacity < 2 * pieces.count { capacity *= 2 }
        var slots = [Int32](repeating: -1, count: capacity)
        for (range, id) in pieces {
            guard !range.isEmpty else { throw Problem(reason: "piece \(id) is empty") }
            guard ranges[id].isEmpty else { throw Problem(reason: "id \(id) is used twice") }
            ranges[id] = range
            let slot = bytes.withUnsafeBufferPointer { all in
                Vocabulary.slot(
                    of: UnsafeBufferPointer(rebasing: all[range]), slots, ranges, all,
                    Vocabulary.seed)
            }
            guard slots[slot] < 0 else {
                let piece = String(decoding: bytes[range], as: UTF8.self)
                throw Problem(reason: "piece '\(piece)' occurs twice")
            }
            slots[slot] = Int32(id)
        }
        try Vocabulary.checkUTF8(bytes, pieces)
        self.bytes = bytes
        self.ranges = ranges
        self.slots = slots
    }

    /// Throws if a piece is not valid UTF-8. Texts are split at added tokens and then into characters, so an added
    /// token must consist of whole characters.
    private static func checkUTF8(
        _ bytes: [UInt8], _ pieces: [(range: Range<Int>, id: Int)]
    ) throws(Problem) {
        // If every piece begins at the start of a character, one check of all bytes is enough.
        let areApart = pieces.allSatisfy { bytes[$0.range.lowerBound] & 0xC0 != 0x80 }
        guard !areApart || String(validating: bytes, as: UTF8.self) == nil else { return }
        for (range, id) in pieces where String(validating: bytes[range], as: UTF8.self) == nil {
            throw Problem(reason: "piece \(id) is not valid UTF-8")
        }
    }

    /// Returns the bytes of piece `id`.
    func piece(_ id: TokenID) -> ArraySlice<UInt8> { bytes[ranges[Int(id)]] }

    /// Returns the id of `piece`; nil if the vocabulary does not have it.
    func id(of piece: UnsafeBufferPointer<UInt8>) -> TokenID? {
        let id = bytes.withUnsafeBufferPointer {
            slots[Vocabulary.slot(of: piece, slots, ranges, $0, seed)]
        }
        return id < 0 ? nil : id
    }

    /// Returns the id of `piece`; nil if the vocabulary does not have it.
    func id(of piece: [UInt8]) -> TokenID? {
        piece.withUnsafeBufferPointer { id(of: $0) }
    }

    /// Returns the slot of `piece`, or the free slot for it if the table does not have it.
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

    /// Returns the FNV-1a hash. The high bits are mixed into the low bits, because the low bits select the slot.
    private static func hash(_ piece: UnsafeBufferPointer<UInt8>, _ seed: UInt64) -> UInt64 {
        var hash = 0xCBF2_9CE4_8422_2325 ^ seed
        for byte in piece { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return hash ^ hash >> 29
    }
}
