// JumpReLU sparse autoencoders (Rajamanoharan et al. 2024, arXiv 2407.14435) as Gemma Scope publishes them.

import ArrayFiles
import Files
import Tensors

/// A JumpReLU SAE on a device: f = ReLU(pre) · (pre > threshold), pre = x · W_enc + b_enc.
package struct JumpReLUSAE<B: Backend> {
    /// Number of columns of the activations that the SAE reads (`d_in`).
    package let dIn: Int
    /// Number of features (`d_sae`).
    package let dSAE: Int
    private let backend: B
    private let wEnc: B.Weights  // (dIn, dSAE)
    private let bEnc: B.Vector  // (dSAE)
    private let threshold: B.Vector  // (dSAE)
    private let wDec: StoredTensor  // (dSAE, dIn)
    private let bDec: [Float]  // (dIn)
    private let path: String

    /// Passes the encoder of `parameters` to `backend`. The decoder matrix stays in the file and is read when needed.
    package init(_ parameters: SAEParameters, on backend: B) throws {
        self.backend = backend
        path = parameters.file.path
        (dIn, dSAE) = (parameters.wEnc.shape[0], parameters.wEnc.shape[1])
        wEnc = backend.weights(parameters.wEnc, layout: .inputsByOutputs, isTable: false)
        bEnc = try backend.vector(parameters.bEnc, adding: 0)
        threshold = try backend.vector(parameters.threshold, adding: 0)
        wDec = parameters.wDec
        bDec = parameters.bDec.floats()
    }

    /// Returns the firing features of `x`, (tokens, dIn), whose activation is above `floor`. All elements of `x` must
    /// be finite. `b_dec` is not subtracted from `x`. `value()` of the result throws `SAEError` if a pre-activation
    /// is NaN or infinite.
    package func encode(_ x: B.Matrix, above floor: Float) throws -> Deferred<FiringFeatures> {
        let features = try backend.jumpReLU(
            x, encoder: wEnc, bias: bEnc, threshold: threshold, above: floor)
        return Deferred { [path] in
            guard let features = try features.value() else {
                throw SAEError.nonFinite(path: path, tensor: "W_enc or b_enc")
            }
            return features
        }
    }

    /// Returns f · W_dec + b_dec, (dIn), where f is row `row` of `features`.
    ///
    /// Reads only the rows of W_dec whose features fire, directly from the file. A product with all of W_dec would
    /// cost as much as encoding.
    func decode(_ features: SparseRows, row: Int) -> [Float] {
        var out = bDec
        var decoder = [Float](repeating: 0, count: dIn)
        for entry in features.entries(of: row) {
            lookUp(Int(features.columns[entry]), into: &decoder)
            let value = features.values[entry]
            for i in 0..<dIn { out[i] += value * decoder[i] }
        }
        return out
    }

    private func lookUp(_ feature: Int, into row: inout [Float]) {
        row.withUnsafeMutableBufferPointer { row in
            guard wDec.isFortranOrder else {
                wDec.convert(from: feature * dIn, count: dIn, to: row.baseAddress!)
                return
            }
            for i in 0..<dIn {
                wDec.convert(from: i * dSAE + feature, count: 1, to: row.baseAddress! + i)
            }
        }
    }

    /// Returns the fraction of the variance that the SAE explains: 1 for a perfect reconstruction, 0 for one that is
    /// no better than the mean. It is NaN if the variance is 0.
    ///
    /// `activations` is (rows, dIn), in row-major order. `features` has all features of these rows with an activation
    /// above 0.
    package func explainedVariance(of activations: [Float], features: SparseRows) -> Double {
        let rows = features.rowCount
        precondition(activations.count == rows * dIn)
        var mean = [Double](repeating: 0, count: dIn)
        for row in 0..<rows {
            for i in 0..<dIn { mean[i] += Double(activations[row * dIn + i]) / Double(rows) }
        }
        var (residual, total) = (0.0, 0.0)
        for row in 0..<rows {
            let decoded = decode(features, row: row)
            for i in 0..<dIn {
                let value = Double(activations[row * dIn + i])
                let error = value - Double(decoded[i])
                residual += error * error
                total += (value - mean[i]) * (value - mean[i])
            }
        }
        return total > 0 ? 1 - residual / total : .nan
    }
}
