// The merges of byte-pair encoding: which pairs of pieces merge, in which order, and into which piece.

/// A table from pairs of ids to their merges.
struct MergeTable: Sendable, Equatable {
    /// The merge of one pair of pieces.
    struct Merge: Sendable, Equatable {
        /// The merge's place in the order of merges. Lower ranks are applied first.
        var rank: Int32
        /// The id of the resulting piece.
        var result: TokenID
    }

    /// A pair and its merge, stored together so that a lookup reads one place in memory. A free slot has key -1.
    private struct Slot: Equatable {
        var key: Int64 = -1
        var merge = Merge(rank: 0, result: 0)
    }

    /// A hash table with open addressing, whose keys are pairs of ids. The number of slots is a power of two, and at
    /// most half of them are used.
    private var slots: [Slot]
    /// The odd factor of the hash function: the upper bits of key · factor select the slot (Dietzfelbinger et al.
    /// 1997). It is random in each process, so that nobody can make a file whose merges all collide.
    private let factor = MergeTable.factor
    private let shift: UInt64
    private static let factor = UInt64.random(in: .min ... .max) | 1

    /// The number of pairs in the table.
    private(set) var count = 0

    /// An empty table with room for `capacity` pairs.
    init(capacity: Int) {
        var size = 16
        while size < 2 * capacity { size *= 2 }
        slots = Array(repeating: Slot(), count: size)
        shift = UInt64(64 - size.trailingZeroBitCount)
    }

    /// Adds a merge. It replaces an earlier merge of the same pair, as in Hugging Face's tokenizers.
    mutating func append(_ left: TokenID, _ right: TokenID, into result: TokenID, rank: Int) {
        let key = MergeTable.key(left, right)
        let slot = self.slot(of: key)
        if slots[slot].key < 0 { count += 1 }
        slots[slot] = Slot(key: key, merge: Merge(rank: Int32(rank), result: result))
    }

    /// Returns the merge of `left` and `right`; nil if they do not merge.
    func merge(_ left: TokenID, _ right: TokenID) -> Merge? {
        let slot = slots[self.slot(of: MergeTable.key(left, right))]
        return slot.key < 0 ? nil : slot.merge
    }

    /// Returns whether `isSuch` is true for at least one pair in the table.
    func contains(where isSuch: (_ left: TokenID, _ right: TokenID) -> Bool) -> Bool {
        slots.contains {
            $0.key >= 0
                && isSuch(
                    TokenID(truncatingIfNeeded: $0.key >> 32), TokenID(truncatingIfNeeded: $0.key))
        }
    }

    /// The length of the longest run of used slots. A lookup reads at most this number of slots, plus one.
    var longestSearch: Int {
        slots.reduce(into: (now: 0, most: 0)) { run, slot in
            run.now = slot.key < 0 ? 0 : run.now + 1
            run.most = max(run.most, run.now)
        }.most
    }

    private static func key(_ left: TokenID, _ right: TokenID) -> Int64 {
        Int64(left) << 32 | Int64(right)
    }

    private func slot(of key: Int64) -> Int {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: (UInt64(bitPattern: key) &* factor) &>> shift)
        while slots[slot].key >= 0, slots[slot].key != key { slot = (slot + 1) & mask }
        return slot
    }
}
