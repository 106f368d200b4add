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

    /// Open addressing by pair; a free slot has key -1. Size a power of two, at most half full.
    private var keys: [Int64]
    private var merges: [Merge]

    /// How many pairs merge.
    private(set) var count = 0

    /// An empty table with room for `capacity` pairs.
    init(capacity: Int) {
        var slots = 16
        while slots < 2 * capacity { slots *= 2 }
        keys = Array(repeating: -1, count: slots)
        merges = Array(repeating: Merge(rank: 0, result: 0), count: slots)
    }

    /// Adds a merge; for a pair that is there already the later rank holds, as in Hugging Face's.
    mutating func append(_ left: TokenID, _ right: TokenID, into result: TokenID, rank: Int) {
        let key = MergeTable.key(left, right)
        let slot = self.slot(of: key)
        if keys[slot] < 0 { count += 1 }
        keys[slot] = key
        merges[slot] = Merge(rank: Int32(rank), result: result)
    }

    /// How `left` and `right` merge, nil where they do not.
    func merge(_ left: TokenID, _ right: TokenID) -> Merge? {
        let slot = self.slot(of: MergeTable.key(left, right))
        return keys[slot] < 0 ? nil : merges[slot]
    }

    private static func key(_ left: TokenID, _ right: TokenID) -> Int64 {
        Int64(left) << 32 | Int64(right)
    }

    private func slot(of key: Int64) -> Int {
        let mask = keys.count - 1
        let mixed = UInt64(bitPattern: key) &* 0x9E37_79B9_7F4A_7C15
        var slot = Int(mixed >> 32) & mask
        while keys[slot] >= 0, keys[slot] != key { slot = (slot + 1) & mask }
        return slot
    }
}
