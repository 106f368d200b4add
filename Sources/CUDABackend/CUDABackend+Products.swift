// Products on tensor cores, which multiply 16-bit numbers exactly and sum in float32.
//
// In a float32 product, a number is split into two float16 parts: high + low / 2¹¹, with 22 bits of mantissa.
// Activations x are always split. For weights w, there are two cases:
// - One float16 part holds w exactly, as for scaled bfloat16 weights: x · w = low(x) · w / 2¹¹ + high(x) · w.
// - Otherwise: x · w = [low(x) | high(x)] · [high(w) | low(w)] / 2¹¹ + high(x) · high(w). The first term is one
//   product with twice the inner dimension. low(x) · low(w) is left out, because it is as small as the error of the
//   parts.
// The first, smaller term is computed first. Then the second term is added to it.
//
// Two bfloat16 parts would cost the same but have only 16 bits of mantissa. With them, results of the test model were
// outside the tolerance.
// Sources: Markidis et al. 2018, arXiv 1803.04014; Ootomo & Yokota 2022, arXiv 2203.03341.

import CUDA
import Tensors

extension CUDABackend {
    /// Returns x · Wᵀ or x · W, depending on the layout of the weights.
    package func matmul(_ x: CUDAMatrix, _ weights: CUDAWeights) throws -> CUDAMatrix {
        let out = try newMatrix(x.rows, weights.outputs)
        try multiply(
            x, rows: 0..<x.rows, weights, outputs: 0..<weights.outputs, into: out.floats!)
        return out
    }

    /// Computes a part of the product of `x` and `weights`: the rows `rows`, and the columns `outputs`. Writes it to
    /// `out`, a matrix of shape (rows.count, outputs.count).
    func multiply(
        _ x: CUDAMatrix, rows: Range<Int>, _ weights: CUDAWeights, outputs: Range<Int>,
        into out: DeviceBuffer
    ) throws {
        precondition(x.columns == weights.inputs)
        guard let data = weights.data else {
            preconditionFailure("weights are used before they were loaded")
        }
        let operand = try operand(of: x)
        let inner = weights.inputs
        // BLAS is column-major, so it reads a row-major matrix as the transpose. The product is therefore outᵀ = W ·
        // xᵀ, with the shapes (outputs, rows) = (outputs, inner) · (inner, rows).
        let firstOutput = outputs.lowerBound * (weights.outputsAreRows ? weights.rowStride : 1)
        func product(
            xPart: Int, from start: Int = 0, inner width: Int, factor: Float, isAdding: Bool
        ) throws {
            try device.multiply(
                CUDADevice.Operand(
                    data,
                    offset: 2
                        * (firstOutput
                            + start * (weights.outputsAreRows ? 1 : weights.outputs)),
                    leadingDimension: weights.outputsAreRows ? weights.rowStride : weights.outputs,
                    isTransposed: weights.outputsAreRows),
                CUDADevice.Operand(
                    operand, offset: 2 * ((rows.lowerBound * parts + xPart) * inner + start),
                    leadingDimension: inner * parts, isTransposed: false),
                as: precision == .float32 ? .float16 : .bfloat16, m: outputs.count, n: rows.count,
                k: width, times: factor, isAdding: isAdding, into: out)
        }
        guard case .float16(let weightParts, _) = weights.form else {
            return try product(xPart: 0, inner: inner, factor: 1, isAdding: false)
        }
        let unscale = 1 / (weights.form.scale * CUDABackend.activationScale)
        try product(
            xPart: 0, inner: weightParts * inner, factor: unscale / CUDABackend.lowScale,
            isAdding: false)
        for start in stride(from: 0, to: inner, by: CUDABackend.innerStep(inner)) {
            try product(
                xPart: 1, from: start, inner: min(CUDABackend.innerStep(inner), inner - start),
                factor: unscale, isAdding: true)
        }
    }

    /// Returns the number of elements of the inner dimension that one product sums. Tensor cores truncate sums, so
    /// the error of a product grows with this number. A long inner dimension is divided among several products, whose
    /// results are added with rounding.
    private static func innerStep(_ inner: Int) -> Int {
        let pieces = (inner + longestSum - 1) / longestSum
        return ((inner + pieces - 1) / pieces + 63) / 64 * 64
    }
    private static var longestSum: Int { 4608 }

    /// These two constants must equal ACTIVATION_SCALE and LOW_SCALE in kernels.cu.
    private static var activationScale: Float { 1 / 256 }
    private static var lowScale: Float { 2048 }
}
