// Grouped-query attention over packed documents, on the CPU. A piece of work is a block of queries of one head in one
// document. A piece needs two small products: Q · Kᵀ, and the attention weights times V. Soft-cap, mask and softmax
// come between them.

import COpenBLAS
import Tensors
import Threading

extension OpenBLASBackend {
    /// Maximum number of queries in a piece. With this size, the scores of a piece stay in the cache. Keys after the
    /// last query of the piece are left out, so most scores above the diagonal are never computed.
    private static let queryBlock = 128

    private struct Piece {
        var head: Int
        var queries: Range<Int>
        var keys: Range<Int>
    }

    /// Returns causal attention within each document, (rows, heads · headWidth), with the window and soft-cap of `p`.
    package func attention(
        queries: CPUMatrix, keys: CPUMatrix, values: CPUMatrix, in batch: PackedBatch,
        _ p: AttentionParameters
    ) -> CPUMatrix {
        let out = newMatrix(queries.rows, p.heads * p.headWidth)
        var pieces: [Piece] = []
        for document in 0..<batch.documentCount {
            let rows = batch.rows(of: document)
            for first in stride(from: rows.lowerBound, to: rows.upperBound, by: Self.queryBlock) {
                let block = first..<min(first + Self.queryBlock, rows.upperBound)
                let firstKey = p.window.map { max(rows.lowerBound, first - $0 + 1) }
                for head in 0..<p.heads {
                    pieces.append(
                        Piece(
                            head: head, queries: block,
                            keys: (firstKey ?? rows.lowerBound)..<block.upperBound))
                }
            }
        }
        threads.forEach(pieces.count) { item, thread in
            let piece = pieces[item]
            let stride = (piece.keys.count + 7) & ~7
            let scores = scratch.floats(piece.queries.count * stride, thread: thread)
            attend(piece, queries, keys, values, p, scores: scores, stride: stride, into: out)
        }
        return out
    }

    private func attend(
        _ piece: Piece, _ queries: CPUMatrix, _ keys: CPUMatrix, _ values: CPUMatrix,
        _ p: AttentionParameters, scores: UnsafeMutablePointer<Float>, stride: Int,
        into out: CPUMatrix
    ) {
        let width = p.headWidth
        let keyHead = piece.head / (p.heads / p.keyValueHeads)
        let (rows, columns) = (piece.queries.count, piece.keys.count)
        // scores = Q · Kᵀ, (queries, keys)
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasTrans, blasint(rows), blasint(columns),
            blasint(width), 1, queries.row(piece.queries.lowerBound) + piece.head * width,
            blasint(queries.columns), keys.row(piece.keys.lowerBound) + keyHead * width,
            blasint(keys.columns), 0, scores, blasint(stride))
        for row in 0..<rows {
            let query = piece.queries.lowerBound + row
            let first = max(piece.keys.lowerBound, p.window.map { query - $0 + 1 } ?? 0)
            softmax(
                scores + row * stride, count: columns, stride: stride,
                visible: first - piece.keys.lowerBound..<query + 1 - piece.keys.lowerBound, p)
        }
        // z = scores · V, (queries, headWidth)
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasNoTrans, blasint(rows), blasint(width),
            blasint(columns), 1, scores, blasint(stride),
            values.row(piece.keys.lowerBound) + keyHead * width, blasint(values.columns), 0,
            out.row(piece.queries.lowerBound) + piece.head * width, blasint(out.columns))
    }

    /// Turns the scores of one query into attention weights, in place: scale, soft-cap, mask, softmax. Of the
    /// `stride` floats that are written, only the first `count` are scores. Weights outside of `visible` become 0.
    private func softmax(
        _ scores: UnsafeMutablePointer<Float>, count: Int, stride: Int, visible: Range<Int>,
        _ p: AttentionParameters
    ) {
        for i in count..<stride { scores[i] = 0 }
        if let cap = p.softCap {
            mapLanes(scores, to: scores, count: stride) {
                ($0 * p.scale / cap).hyperbolicTangent * cap
            }
        } else {
            mapLanes(scores, to: scores, count: stride) { $0 * p.scale }
        }
        for i in 0..<visible.lowerBound { scores[i] = -.infinity }
        for i in visible.upperBound..<stride { scores[i] = -.infinity }
        let largest = foldLanes(
            scores, count: stride, rest: -.infinity, into: -.infinity
        ) { $0 = Lanes.larger($0, $1) }.max()
        mapLanes(scores, to: scores, count: stride) { ($0 - largest).exponential }
        let sum = foldLanes(scores, count: stride, rest: 0, into: 0) { $0 += $1 }.sum()
        mapLanes(scores, to: scores, count: stride) { $0 / sum }
    }
}
