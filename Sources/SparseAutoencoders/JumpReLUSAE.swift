// JumpReLU sparse autoencoders (Rajamanoharan et al. 2024, arXiv 2407.14435) as Gemma Scope publishes them.

import ArrayFiles
import Tensors

/// A JumpReLU SAE on a device: f = ReLU(pre) · (pre > threshold), pre = x · W_enc + b_enc.
public struct JumpReLUSAE<B: Backend> {
    /// Width of the tap it reads (`d_in`).
    public let dIn: Int
    /// Number of features (`d_sae`).
    public let dSAE: Int
    private let backend: B
    private let wEnc: B.Weights  // (dIn, dSAE)
    private let bEnc: B.Vector  // (dSAE)
    private let threshold: B.Vector  // (dSAE)
    private let wDec: B.Weights  // (dSAE, dIn)
    private let bDec: [Float]  // (dIn)
    private let path: String

    /// Makes `parameters` resident.
    public init(_ parameters: SAEParameters, on backend: B) {
        self.backend = backend
        path = parameters.file.path
        (dIn, dSAE) = (parameters.wEnc.shape[0], parameters.wEnc.shape[1])
        wEnc = backend.weights(parameters.wEnc, layout: .inputsByOutputs)
        bEnc = backend.vector(parameters.bEnc, adding: 0)
        threshold = backend.vector(parameters.threshold, adding: 0)
        // Its rows are looked up, like a vocabulary's.
        wDec = backend.weights(parameters.wDec, layout: .outputsByInputs)
        bDec = parameters.bDec.floats()
    }

    /// Features of `x`, (tokens, dIn) and finite, that are above `floor`. `b_dec` is not subtracted from the
    /// input. Throws where a pre-activation is NaN or infinite.
    public func encode(_ x: B.Matrix, above floor: Float) throws(SAEError) -> SparseRows {
        guard
            let features = backend.jumpReLU(
                x, encoder: wEnc, bias: bEnc, threshold: threshold, above: floor)
        else { throw .nonFinite(path: path, tensor: "W_enc or b_enc") }
        return features
    }

    /// f · W_dec + b_dec, (rows, dIn) in row-major order, for the rows of `features` in `range`.
    ///
    /// A product with all of W_dec would cost as much as encoding; what fires is a few rows of it.
    func decode(_ features: SparseRows, rows range: Range<Int>) -> [Float] {
        var out = (0..<range.count).flatMap { _ in bDec }
        let entries = features.starts[range.lowerBound]..<features.starts[range.upperBound]
        // About 16 MB of rows of W_dec at a time.
        let step = max(1, (1 << 22) / dIn)
        var row = range.lowerBound
        for first in stride(from: entries.lowerBound, to: entries.upperBound, by: step) {
            let chunk = first..<min(first + step, entries.upperBound)
            let decoders = backend.embed(Array(features.columns[chunk]), table: wDec, scale: 1)
            backend.withElements(of: decoders) { decoders in
                out.withUnsafeMutableBufferPointer { out in
                    for entry in chunk {
                        while entry >= features.starts[row + 1] { row += 1 }
                        let value = features.values[entry]
                        let (from, to) = ((entry - first) * dIn, (row - range.lowerBound) * dIn)
                        for i in 0..<dIn { out[to + i] += value * decoders[from + i] }
                    }
                }
            }
        }
        return out
    }

    /// How well the SAE explains the tap, over the rows in `ranges`: 1 for a perfect reconstruction, 0 for
    /// one no better than the mean. `features` are all that are on (floor 0), one row for each of `x`.
    public func explainedVariance(
        of x: B.Matrix, features: SparseRows, rows ranges: [Range<Int>]
    ) -> Double {
        let step = 256
        return backend.withElements(of: x) { x in
            var mean = [Double](repeating: 0, count: dIn)
            var count = 0.0
            for row in ranges.joined() {
                count += 1
                for i in 0..<dIn { mean[i] += Double(x[row * dIn + i]) }
            }
            for i in 0..<dIn { mean[i] /= max(count, 1) }
            var (residual, total) = (0.0, 0.0)
            for range in ranges {
                for first in stride(from: range.lowerBound, to: range.upperBound, by: step) {
                    let rows = first..<min(first + step, range.upperBound)
                    let decoded = decode(features, rows: rows)
                    for row in rows {
                        for i in 0..<dIn {
                            let value = Double(x[row * dIn + i])
                            let error = value - Double(decoded[(row - first) * dIn + i])
                            residual += error * error
                            total += (value - mean[i]) * (value - mean[i])
                        }
                    }
                }
            }
            return total > 0 ? 1 - residual / total : .nan
        }
    }
}
