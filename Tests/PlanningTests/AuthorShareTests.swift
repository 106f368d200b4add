// Tests of how authors and batches are divided among ranks.

import TestSupport
import Testing

@testable import Planning

struct AuthorShareTests {
    private func numbers(_ rank: Int, _ world: Int, _ authors: Int) -> [Int] {
        AuthorShare.shares(rank: rank, worldSize: world, authorCount: authors).map(\.number)
    }

    @Test func twoRanksFiveAuthors() {
        #expect(numbers(0, 2, 5) == [0, 2, 4])
        #expect(numbers(1, 2, 5) == [1, 3])
    }

    @Test func fourRanksThreeAuthors() {
        #expect((0..<4).map { numbers($0, 4, 3) } == [[0], [1], [2], [0]])
        let shares = [0, 3].flatMap {
            AuthorShare.shares(rank: $0, worldSize: 4, authorCount: 3)
        }
        #expect(shares.map(\.part) == [0, 1] && shares.map(\.parts) == [2, 2])
        #expect(shares.map { $0.batches(of: 7) } == [0..<3, 3..<7])
    }

    /// Checks that every batch of every author belongs to exactly one rank. The shares of an author differ by at most
    /// one batch.
    @Test func everyBatchHasOneRank() {
        for authors in 1...7 {
            for world in 1...20 {
                var random = SeededGenerator(UInt64(authors * 100 + world))
                let counts = (0..<authors).map { _ in Int.random(in: 0...9, using: &random) }
                var owners = counts.map { [Int](repeating: 0, count: $0) }
                var sizes = counts.map { _ in [Int]() }
                for rank in 0..<world {
                    let shares = AuthorShare.shares(
                        rank: rank, worldSize: world, authorCount: authors)
                    #expect(!shares.isEmpty)
                    for share in shares {
                        let batches = share.batches(of: counts[share.number])
                        for batch in batches { owners[share.number][batch] += 1 }
                        sizes[share.number].append(batches.count)
                    }
                }
                #expect(owners.joined().allSatisfy { $0 == 1 })
                #expect(sizes.allSatisfy { $0.max()! - $0.min()! <= 1 })
            }
        }
    }

    @Test func noAuthorsNoShares() {
        #expect(numbers(0, 3, 0) == [])
    }

    @Test func ranksOfAnAuthorAreThoseWithShares() {
        for (authors, world) in [(1, 1), (5, 2), (3, 4), (3, 7), (7, 7), (10, 3)] {
            for number in 0..<authors {
                let ranks = (0..<world).filter {
                    AuthorShare.shares(rank: $0, worldSize: world, authorCount: authors)
                        .contains { $0.number == number }
                }
                #expect(
                    AuthorShare.ranks(ofAuthor: number, worldSize: world, authorCount: authors)
                        == ranks)
            }
        }
    }
}
