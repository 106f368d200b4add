// The rank of an invocation in a run that several invocations share.

/// The rank of an invocation among the invocations that share the work of a run.
package struct RankPlacement: Codable, Equatable, Sendable {
    /// This invocation's rank, from 0.
    package var rank: Int
    /// The number of invocations that share the work.
    package var worldSize: Int
    /// The number of these invocations that run on this machine; 1 if unknown.
    package var localCount: Int
    /// The index of this invocation among those on this machine, from 0.
    package var localRank: Int

    /// Creates the placement of rank `rank` of `worldSize`. Without arguments, the invocation does all the work.
    package init(rank: Int = 0, worldSize: Int = 1, localCount: Int = 1, localRank: Int = 0) {
        self.rank = rank
        self.worldSize = worldSize
        self.localCount = localCount
        self.localRank = localRank
    }
}
