// Computes batches. If memory is short, a batch is divided into parts.

import CUDA
import Logging
import RunState
import Tensors

/// Computes the batches of a worker, whole or in parts.
final class BatchComputer<B: Backend> {
    private let extractor: Extractor<B>
    private let timing: Timing
    private let log: Logger
    /// The number of parts into which each batch is divided. It is more than 1 if memory was short before.
    private var parts = 1

    init(_ extractor: Extractor<B>, timing: Timing, log: Logger) {
        (self.extractor, self.timing, self.log) = (extractor, timing, log)
    }

    /// Starts to compute the documents `documents` of `work` as one batch. Returns nil if memory is short. Then the
    /// caller must call `computeInParts`. If `checksTaps` is true, logs how well each SAE reconstructs its
    /// activations.
    func start(
        _ documents: Range<Int>, of work: AuthorWork, checksTaps: Bool
    ) throws -> Deferred<BatchRecord>? {
        guard parts == 1 else { return nil }
        do {
            return try timing.measure(.model) {
                try extract(documents, of: work, checksTaps: checksTaps)
            }
        } catch let error as CUDAError where error.isOutOfMemory {
            return nil
        }
    }

    /// Computes the documents `documents` of `work` in parts, and waits for the result. If memory is short, doubles
    /// the number of parts, also for later batches, and tries again. No other batch must be under way, because it
    /// would hold memory.
    func computeInParts(
        _ documents: Range<Int>, of work: AuthorWork, checksTaps: Bool
    ) throws -> BatchRecord {
        var checksTaps = checksTaps
        while true {
            let count = min(parts, max(documents.count, 1))
            do {
                return try timing.measure(.model) {
                    BatchRecord(
                        joining: try (0..<count).map { part in
                            let start = documents.lowerBound + part * documents.count / count
                            let end = documents.lowerBound + (part + 1) * documents.count / count
                            let record = try compute(start..<end, of: work, checksTaps: checksTaps)
                            // Only the first part that has tokens is used for the check.
                            if record.documents.contains(where: { !$0.tokens.isEmpty }) {
                                checksTaps = false
                            }
                            return record
                        })
                }
            } catch let error as CUDAError where error.isOutOfMemory {
                guard count < documents.count else { throw error }
                parts *= 2
                log.warning(
                    "\(error); batches are computed in \(parts) parts from here on; another run may give other bytes in its files"
                )
            }
        }
    }

    private func compute(
        _ documents: Range<Int>, of work: AuthorWork, checksTaps: Bool
    ) throws -> BatchRecord {
        while true {
            do {
                return try extract(documents, of: work, checksTaps: checksTaps).value()
            } catch is ResultOverflow {
                // The backend has reserved more memory for the results, so the batch is computed again.
                continue
            }
        }
    }

    private func extract(
        _ documents: Range<Int>, of work: AuthorWork, checksTaps: Bool
    ) throws -> Deferred<BatchRecord> {
        try extractor.extract(
            work.author, work.sequences[documents], hooks: work.hooks, checkingTaps: checksTaps)
    }
}
