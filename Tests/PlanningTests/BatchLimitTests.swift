// Tests of how documents are divided into batches.

import TestSupport
import Testing

@testable import Planning

struct BatchLimitTests {
    @Test func fixedBatchesHaveThatManyDocuments() {
        #expect(
            BatchLimit.documents(3).batches(lengths: Array(repeating: 9, count: 7)) == [
                0..<3, 3..<6, 6..<7,
            ])
        #expect(BatchLimit.documents(1).batches(lengths: [1, 1]) == [0..<1, 1..<2])
        #expect(BatchLimit.documents(5).batches(lengths: []) == [])
    }

    @Test func automaticBatchesFitTheBudget() {
        var random = SeededGenerator(13)
        let lengths = (0..<500).map { _ in Int.random(in: 1...360, using: &random) }
        let batches = BatchLimit.tokens(1000).batches(lengths: lengths)
        #expect(batches.flatMap { $0 } == Array(0..<500))
        for (batch, next) in zip(batches, batches.dropFirst()) {
            let tokens = lengths[batch].reduce(0, +)
            #expect(tokens <= 1000)
            // With the next document, the batch would have more than 1000 tokens.
            #expect(tokens + lengths[next.lowerBound] > 1000)
        }
        // A document with more than 1000 tokens is a batch of its own.
        #expect(BatchLimit.tokens(1000).batches(lengths: [10, 5000, 10]) == [0..<1, 1..<2, 2..<3])
    }
}
