// Divides authors and batches among ranks. The division depends only on their numbers, so every rank can compute all
// shares.

/// A rank's share of one author: a contiguous range of the author's batches.
package struct AuthorShare: Codable, Equatable, Sendable {
    /// The index of the author in the plan, from 0.
    package let number: Int
    /// The index of the share among the shares of the author, from 0.
    package let part: Int
    /// The number of shares of the author: the number of ranks that work on the author.
    package let parts: Int

    /// Returns the shares of rank r = `rank`. If there are at least as many authors as ranks, these are the whole
    /// authors r, r + `worldSize`, r + 2 · `worldSize`, …. Otherwise, the ranks r, r + `authorCount`, … share author
    /// r.
    package static func shares(rank: Int, worldSize: Int, authorCount: Int) -> [AuthorShare] {
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

    /// Returns the ranks that have a share of author `number`.
    static func ranks(ofAuthor number: Int, worldSize: Int, authorCount: Int) -> [Int] {
        worldSize > authorCount
            ? Array(stride(from: number, to: worldSize, by: authorCount)) : [number % worldSize]
    }

    /// Returns the range of the share's batches, for an author with `count` batches.
    package func batches(of count: Int) -> Range<Int> {
        part * count / parts..<(part + 1) * count / parts
    }
}
