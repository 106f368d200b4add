// The unembedding on the CPU. The logits of the whole vocabulary are never stored. For each row, a chunk of logits is
// reduced to its maximum m, Σ eˡ and Σ l·eˡ, with l = logit - m. These numbers give the entropy and, with the logit
// of the next token, the cross-entropy.

import Glibc
import Tensors
import Threading

extension OpenBLASBackend {
    /// The logits of one row in one chunk, reduced to their maximum (`largest`), Σ eˡ (`sum`) and Σ l·eˡ
    /// (`weighted`), with l = logit - largest.
    private struct Partial {
        var largest: Float = -.infinity
        var sum: Float = 0
        var weighted: Float = 0
        var isFinite = true
    }

    /// Returns cross-entropy and entropy of the soft-capped logits.
    package func predictions(
        _ x: CPUMatrix, unembedding: Weights, softCap: Float?, nextTokens: [Int32]
    ) -> Deferred<TokenPredictions> {
        precondition(nextTokens.count == x.rows && x.columns == unembedding.inputs)
        let blocks = OutputBlocks(for: unembedding, bfloat16)
        let factor = leftFactor(x, of: unembedding)
        let partials = UnsafeMutableBufferPointer<Partial>.allocate(capacity: blocks.count * x.rows)
        let targets = UnsafeMutableBufferPointer<Float>.allocate(capacity: x.rows)
        targets.initialize(repeating: 0)
        defer {
            partials.deallocate()
            targets.deallocate()
        }
        threads.forEach(blocks.count) { block, thread in
            let range = blocks.range(block)
            let stride = (range.count + 7) & ~7
            let panelSize = (panelSize(unembedding, range.count) + 15) & ~15
            let room = scratch.floats(panelSize + x.rows * stride, thread: thread)
            let logits = room + panelSize
            multiply(
                factor, unembedding, outputs: range, panel: room, into: logits, stride: stride)
            for row in 0..<x.rows {
                let line = logits + row * stride
                partials[block * x.rows + row] = reduce(line, count: range.count, softCap: softCap)
                let target = Int(nextTokens[row])
                if range.contains(target) { targets[row] = line[target - range.lowerBound] }
            }
        }
        return Deferred(
            combine(
                UnsafeBufferPointer(partials), blocks: blocks.count, targets: targets,
                nextTokens: nextTokens))
    }

    /// Applies the soft-cap to the logits of one row in place, and reduces the logits to a `Partial`.
    private func reduce(
        _ logits: UnsafeMutablePointer<Float>, count: Int, softCap: Float?
    ) -> Partial {
        // `zeros` is NaN if a logit is NaN or infinite. It is computed before the soft-cap, which makes an infinite
        // logit finite.
        let zeros = foldLanes(logits, count: count, rest: 0, into: 0) { $0 += $1 * 0 }
        if let cap = softCap {
            mapLanes(logits, to: logits, count: count) { ($0 / cap).hyperbolicTangent * cap }
        }
        let largest = foldLanes(
            logits, count: count, rest: -.infinity, into: -.infinity
        ) { $0 = Lanes.larger($0, $1) }.max()
        var weighted = Lanes(repeating: 0)
        let sum = foldLanes(logits, count: count, rest: -.infinity, into: 0) { sum, logit in
            let below = logit - largest
            let e = below.exponential
            sum += e
            weighted += Lanes.choose(Lanes(), else: e * below) { e[$0] == 0 }
        }
        return Partial(
            largest: largest, sum: sum.sum(), weighted: weighted.sum(),
            isFinite: zeros.sum() == 0)
    }

    /// Combines the partial results of all chunks, in the order of the chunks and in double precision.
    private func combine(
        _ partials: UnsafeBufferPointer<Partial>, blocks: Int,
        targets: UnsafeMutableBufferPointer<Float>, nextTokens: [Int32]
    ) -> TokenPredictions {
        let rows = nextTokens.count
        var out = TokenPredictions(
            crossEntropy: Array(repeating: 0, count: rows),
            entropy: Array(repeating: 0, count: rows))
        for row in 0..<rows {
            let chunks = stride(from: row, to: blocks * rows, by: rows).lazy.map { partials[$0] }
            let largest = chunks.reduce(-Float.infinity) { max($0, $1.largest) }
            var (sum, weighted) = (0.0, 0.0)  // relative to `largest`
            for chunk in chunks {
                let shift = Double(chunk.largest) - Double(largest)
                let scale = exp(shift)
                sum += scale * Double(chunk.sum)
                weighted += scale * (Double(chunk.weighted) + shift * Double(chunk.sum))
            }
            let logPartition = Double(largest) + log(sum)
            // If the true value is zero, rounding can give a slightly negative result.
            out.entropy[row] = Float(max(0, log(sum) - weighted / sum))
            if nextTokens[row] >= 0 {
                out.crossEntropy[row] = Float(max(0, logPartition - Double(targets[row])))
            }
            let isFinite = (sum + weighted + logPartition).isFinite && chunks.allSatisfy(\.isFinite)
            if out.firstNonFiniteRow == nil, !isFinite { out.firstNonFiniteRow = row }
        }
        return out
    }
}
