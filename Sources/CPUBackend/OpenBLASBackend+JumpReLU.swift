// The SAE encoder on the CPU. Pre-activations exist only for a chunk of features at a time, of which the firing
// features are kept. So the dense activations of all features are never stored.

import Tensors
import Threading

extension OpenBLASBackend {
    /// The firing features of one chunk. `counts` has one element for each row: its number of firing features.
    /// `columns` and `values` have one element for each firing feature, row after row.
    private struct Chunk {
        var counts: [Int32] = []
        var columns: [Int32] = []
        var values: [Float] = []
        var isFinite = true
    }

    /// Returns the firing features whose activation is above `floor`; nil if a pre-activation is NaN or infinite.
    /// Without this check, a NaN would look like a feature that does not fire, because NaN > threshold is false.
    package func jumpReLU(
        _ x: CPUMatrix, encoder: Weights, bias: [Float], threshold: [Float], above floor: Float
    ) -> Deferred<FiringFeatures?> {
        precondition(x.columns == encoder.inputs && bias.count == encoder.outputs)
        precondition(threshold.count == encoder.outputs && floor >= 0)
        let blocks = OutputBlocks(for: encoder, bfloat16)
        let factor = leftFactor(x, of: encoder)
        var chunks = [Chunk](repeating: Chunk(), count: blocks.count)
        chunks.withUnsafeMutableBufferPointer { chunks in
            nonisolated(unsafe) let chunks = chunks
            threads.forEach(blocks.count) { block, thread in
                let range = blocks.range(block)
                let stride = range.count
                let panelSize = (panelSize(encoder, stride) + 15) & ~15
                let room = scratch.floats(panelSize + x.rows * stride, thread: thread)
                let pre = room + panelSize
                multiply(
                    factor, encoder, outputs: range, panel: room, into: pre, stride: stride)
                // The activation of a firing feature is its pre-activation. So one comparison with the larger of
                // threshold and floor checks both conditions.
                let cut = threshold[range].map { max($0, floor) }
                chunks[block] = compact(
                    pre, rows: x.rows, bias: Array(bias[range]), cut: cut,
                    firstColumn: range.lowerBound)
            }
        }
        guard chunks.allSatisfy(\.isFinite) else { return Deferred(nil) }
        let all = join(chunks, rows: x.rows)
        return Deferred(FiringFeatures { all.selecting($0) })
    }

    private func compact(
        _ pre: UnsafeMutablePointer<Float>, rows: Int, bias: [Float], cut: [Float], firstColumn: Int
    ) -> Chunk {
        var chunk = Chunk()
        chunk.counts.reserveCapacity(rows)
        let width = cut.count
        bias.withUnsafeBufferPointer { bias in
            cut.withUnsafeBufferPointer { cut in
                let (bias, cut) = (bias.baseAddress!, cut.baseAddress!)
                for row in 0..<rows {
                    let line = pre + row * width
                    let before = chunk.columns.count
                    func keep(_ column: Int) {
                        let value = line[column] + bias[column]
                        guard value > cut[column] else { return }
                        chunk.columns.append(Int32(firstColumn + column))
                        chunk.values.append(value)
                    }
                    let whole = width & ~7
                    var zeros = Lanes(repeating: 0)
                    for i in Swift.stride(from: 0, to: whole, by: 8) {
                        let value = line.lanes(i) + bias.lanes(i)
                        zeros += value * 0
                        if any(value .> cut.lanes(i)) {
                            for column in i..<i + 8 { keep(column) }
                        }
                    }
                    for column in whole..<width {
                        zeros[0] += (line[column] + bias[column]) * 0
                        keep(column)
                    }
                    if zeros.sum() != 0 { chunk.isFinite = false }
                    chunk.counts.append(Int32(chunk.columns.count - before))
                }
            }
        }
        return chunk
    }

    /// Joins the chunks row by row. The chunks are in ascending order of features, so columns ascend within a row.
    private func join(_ chunks: [Chunk], rows: Int) -> SparseRows {
        var out = SparseRows()
        let total = chunks.reduce(0) { $0 + $1.columns.count }
        out.starts.reserveCapacity(rows + 1)
        out.columns.reserveCapacity(total)
        out.values.reserveCapacity(total)
        var next = [Int](repeating: 0, count: chunks.count)
        for row in 0..<rows {
            for (index, chunk) in chunks.enumerated() where chunk.counts[row] > 0 {
                let entries = next[index]..<next[index] + Int(chunk.counts[row])
                out.columns += chunk.columns[entries]
                out.values += chunk.values[entries]
                next[index] = entries.upperBound
            }
            out.starts.append(out.columns.count)
        }
        return out
    }
}
