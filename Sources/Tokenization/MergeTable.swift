// Which pairs of pieces merge, in which order, and into what.

/// An immutable table from pairs of ids to merges.
struct MergeTable: Sendable, Equatable {
    /// One way of joining two pieces.
    struct Merge: Sendable, Equatable {
        /// Its place in the order of merges: lower ones go first.
        var rank: Int32
        /// The piece it makes.
        var result: TokenID
    }

    /// A pair and its merge beside each other: one look at memory. A free slot has key -1.
    private struct Slot: Equatable {
        var key: Int64 = -1
        var merge = Merge(rank: 0, result: 0)
    }

    /// Open addressing by pair. Size a power of two, at most half full.
    private var slots: [Slot]
    /// What keys are multiplied by; of the product the upper bits are the slot. Odd, and in each process another, so that no file
    /// can have all of its merges in one place of the table (Dietzfelbinger et al. 1997).
    private let factor = MergeTable.factor
    private let shift: UInt64
    private static let factor = UInt64.random(in: .min ... .max) | 1

    /// How many pairs merge.
    private(set) var count = 0

    /// An empty table with room for `capacity` pairs.
    init(capacity: Int) {
        var size = 16
        while size < 2 * capacity { size *= 2 }
        slots = Array(repeating: Slot(), count: size)
        shift = UInt64(64 - size.trailingZeroBitCount)
    }

    /// Adds a merge; for a pair that is there already the later rank holds, as in Hugging Face's.
    mutating func append(_ left: TokenID, _ right: TokenID, into result: TokenID, rank: Int) {
        let key = MergeTable.key(left, right)
        let slot = self.slot(of: key)
        if slots[slot].key < 0 { count += 1 }
        slots[slot] = Slot(key: key, merge: Merge(rank: Int32(rank), result: result))
    }

    /// How `left` and `right` merge, nil where they do not.
    func merge(_ left: TokenID, _ right: TokenID) -> Merge? {
        let slot = slots[self.slot(of: MergeTable.key(left, right))]
        return slot.key < 0 ? nil : slot.merge
    }

    /// Whether one of the pairs that merge is such.
    func contains(where isSuch: (_ left: TokenID, _ right: TokenID) -> Bool) -> Bool {
        slots.contains {
            $0.key >= 0
                && isSuch(
                    TokenID(truncatingIfNeeded: $0.key >> 32), TokenID(truncatingIfNeeded: $0.key))
        }
    }

    /// Slots that are filled one behind the other, at most: how far a search can go.
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
