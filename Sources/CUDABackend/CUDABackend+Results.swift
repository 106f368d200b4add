// Results that are copied from the device: predictions, and firing features. Logits and dense activations stay on the
// device.

import CUDA
import Tensors

extension CUDABackend {
    /// Divides `count` rows or outputs of `bytesEach` bytes into equal chunks of at most `chunkBytes` bytes. Returns
    /// the number of rows or outputs in a chunk.
    private static func step(_ count: Int, bytesEach: Int) -> Int {
        let limit = max(1, chunkBytes / bytesEach)
        let chunks = (count + limit - 1) / limit
        return (count + chunks - 1) / chunks
    }

    /// Returns cross-entropy and entropy of the soft-capped logits. Ends the batch that `embed` began.
    package func predictions(
        _ x: CUDAMatrix, unembedding: CUDAWeights, softCap: Float?, nextTokens: [Int32]
    ) throws -> Deferred<TokenPredictions> {
        precondition(nextTokens.count == x.rows)
        let rows = x.rows
        let next = try upload(nextTokens)
        let partitions = try device.buffer(bytes: rows * 32)
        let step = CUDABackend.step(unembedding.outputs, bytesEach: rows * 4).evenUp
        let logits = try device.buffer(bytes: step * rows * 4)
        for first in stride(from: 0, to: unembedding.outputs, by: step) {
            let tokens = first..<min(first + step, unembedding.outputs)
            try multiply(x, rows: 0..<rows, unembedding, outputs: tokens, into: logits)
            try device.launch(
                "reduce_logits", grid: (rows, 1), block: CUDABackend.block(tokens.count),
                [
                    .pointer(logits), .int(tokens.count), .int(first), .float(softCap ?? 0),
                    .pointer(next), .pointer(partitions), .int(first == 0 ? 1 : 0),
                ])
        }
        // `result` holds the cross-entropy of each row, then the entropy of each row, then the index of the first row
        // that is not finite.
        let result = try device.buffer(bytes: (2 * rows + 1) * 4)
        try device.fill(result, offset: 2 * rows * 4, 0x7F, bytes: 4)
        try device.launch(
            "finish_predictions", grid: ((rows + 127) / 128, 1), block: 128,
            [
                .pointer(partitions), .pointer(next), .int(rows), .pointer(result),
                .pointer(result, rows * 4), .pointer(result, 2 * rows * 4),
            ])
        let fetched = try fetch(result, Float.self, count: 2 * rows + 1)
        let (start, uploads) = (batchStart, batchUploads)
        (batchStart, batchUploads) = (nil, [])
        let end = try device.event(on: device.compute, isTimed: true)
        return Deferred { [self] in
            let values = try fetched.value()
            try withExtendedLifetime(uploads) { try end.synchronize() }
            if let start { finishBatch(start, end) }
            let row = Int(values[2 * rows].bitPattern)
            return TokenPredictions(
                crossEntropy: Array(values[..<rows]), entropy: Array(values[rows..<2 * rows]),
                firstNonFiniteRow: row < rows ? row : nil)
        }
    }

    /// Returns the firing features whose activation is above `floor`; nil if a pre-activation is NaN or infinite.
    /// `value()` of the result throws `ResultOverflow` if the buffers were too small.
    package func jumpReLU(
        _ x: CUDAMatrix, encoder: CUDAWeights, bias: DeviceBuffer, threshold: DeviceBuffer,
        above floor: Float
    ) throws -> Deferred<FiringFeatures?> {
        let (rows, width) = (x.rows, encoder.outputs)
        let perRow = min(entriesPerRow, width)
        let capacity = rows * perRow
        // `index` holds two elements for the cursor (see the kernel `jump_relu`), then the number of entries of each
        // row, then the index of the first entry of each row.
        let index = try device.buffer(bytes: (2 + 2 * rows) * 4)
        try device.fill(index, 0, bytes: 8)
        let columns = try rowBuffer(rows, bytesPerRow: perRow * 4)
        let values = try rowBuffer(rows, bytesPerRow: perRow * 4)
        let step = CUDABackend.step(rows, bytesEach: width * 4)
        let pre = try device.buffer(bytes: step * width * 4)
        for first in stride(from: 0, to: rows, by: step) {
            let chunk = first..<min(first + step, rows)
            try multiply(x, rows: chunk, encoder, outputs: 0..<width, into: pre)
            try device.launch(
                "jump_relu", grid: (chunk.count, 1), block: 256,
                [
                    .pointer(pre), .pointer(bias), .pointer(threshold), .float(floor), .int(width),
                    .int(first), .int(capacity), .pointer(index), .pointer(index, 8),
                    .pointer(index, 8 + 4 * rows), .pointer(columns), .pointer(values),
                ])
        }
        let fetched = try fetch(index, Int32.self, count: 2 + 2 * rows)
        return Deferred { [self] in
            let index = try fetched.value()
            guard index[1] == 0 else { return nil }
            let total = Int(index[0])
            guard total <= capacity else {
                while entriesPerRow * rows < total { entriesPerRow *= 2 }
                throw ResultOverflow()
            }
            return try fetchFeatures(index, rows: rows, total: total, columns, values)
        }
    }

    /// Copies `total` entries to the host on the stream `copies`, while the stream `compute` continues. `index` says
    /// where the entries of each row begin, because rows are in the order in which the kernel's blocks reserved room
    /// for them.
    private func fetchFeatures(
        _ index: [Int32], rows: Int, total: Int, _ columns: DeviceBuffer, _ values: DeviceBuffer
    ) throws -> FiringFeatures {
        let pinned = try device.pinned(bytes: max(1, 8 * total))
        try device.copy(columns, to: pinned.pointer, bytes: 4 * total, on: device.copies)
        try device.copy(
            values, to: pinned.pointer + 4 * total, bytes: 4 * total, on: device.copies)
        try device.copies.synchronize()
        return FiringFeatures { ranges in
            withExtendedLifetime(pinned) {
                let base = UnsafeRawPointer(pinned.pointer)
                return SparseRows(
                    gathering: ranges,
                    columns: UnsafeBufferPointer(
                        start: base.assumingMemoryBound(to: Int32.self), count: total),
                    values: UnsafeBufferPointer(
                        start: (base + 4 * total).assumingMemoryBound(to: Float.self), count: total)
                ) { (Int(index[2 + rows + $0]), Int(index[2 + $0])) }
            }
        }
    }
}

extension Int {
    /// The number rounded up to a multiple of 8. Tensor cores need operands that begin at a multiple of eight
    /// elements.
    fileprivate var evenUp: Int { (self + 7) / 8 * 8 }
}
