// Which rank does which part of which author: decided by their numbers alone, so that every rank knows all shares.

/// A rank's share of one author: a contiguous run of the author's batches.
public struct AuthorShare: Codable, Equatable, Sendable {
    /// The author's place in the plan's order, from 0.
    public let number: Int
    /// Which part of the author's batches, from 0.
    public let part: Int
    /// Into how many parts the batches are cut: the number of ranks that share the author.
    public let parts: Int

    /// The shares of rank `rank` of `worldSize` among `authorCount` authors. With no more ranks than authors
    /// each rank takes every `worldSize`-th author; else the ranks `r`, `r + authorCount`, … share author `r`.
    public static func shares(rank: Int, worldSize: Int, authorCount: Int) -> [AuthorShare] {
        precondition((0..<worldSize).contains(rank))
        guard authorCount > 0 else { return [] }
        guard worldSize > authorCount else {
            return stride(from: rank, to: authorCount, by: worldSize).map {
                AuthorShare(number: $0, part: 0, parts: 1)
            }
        }
        let number = rank % authorCount
        let parts = (worldSize - number + authorCount - 1) / authorCount
        return [AuthorShare(number: number, part: rank / authorCount, parts: parts)]
    }

    /// The ranks that have a share of author `number`, as `shares` gives them.
    static func ranks(ofAuthor number: Int, worldSize: Int, authorCount: Int) -> [Int] {
        worldSize > authorCount
            ? Array(stride(from: number, to: worldSize, by: authorCount)) : [number % worldSize]
    }

    /// The share's part of `count` batches.
    package func batches(of count: Int) -> Range<Int> {
        part * count / parts..<(part + 1) * count / parts
    }
}

/// Where an invocation stands among separately started ones.
public struct RankPlacement: Codable, Equatable, Sendable {
    /// This invocation's rank, from 0.
    public var rank: Int
    /// How many invocations share the work.
    public var worldSize: Int
    /// How many of them run on this machine, as far as is known.
    public var localCount: Int
    /// Which of those this one is, from 0.
    public var localRank: Int

    /// Rank `rank` of `worldSize`.
    public init(rank: Int = 0, worldSize: Int = 1, localCount: Int = 1, localRank: Int = 0) {
        self.rank = rank
        self.worldSize = worldSize
        self.localCount = localCount
        self.localRank = localRank
    }
}
