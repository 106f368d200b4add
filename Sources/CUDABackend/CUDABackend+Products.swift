// Products of float32 matrices on tensor cores. Tensor cores multiply 16-bit numbers exactly and sum in float32.
//
// A float32 number is nearly high + low / 2¹¹ with high and low in float16: together 22 bits of mantissa.
// - If the weights w are float16 numbers (as bfloat16 weights are after scaling): x · w = low · w / 2¹¹ + high · w.
// - Otherwise: x · w = [low | high] · [high | low] / 2¹¹ + high · high. The first term is one product with twice the inner
//   dimension. The term low · low is omitted: it is as small as the error of the parts.
// The small terms are summed first. Sources: Markidis et al. 2018, arXiv 1803.04014; Ootomo & Yokota 2022, arXiv 2203.03341.
// bfloat16 parts would need the same products but have only 16 bits of mantissa together; the test model shows the difference.

import CUDA
import Tensors

extension CUDABackend {
    /// Returns x · Wᵀ or x · W, depending on the layout of the weights.
    public func matmul(_ x: CUDAMatrix, _ weights: CUDAWeights) throws -> CUDAMatrix {
        let out = try newMatrix(x.rows, weights.outputs)
        try multiply(
            x, rows: 0..<x.rows, weights, outputs: 0..<weights.outputs, into: out.floats!)
        return out
    }

    /// Writes the product of `rows` of `x` and the weights of `outputs` to `out`: (rows, outputs).
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
        // BLAS reads row-major matrices as transposed: outᵀ (outputs, rows) = W (outputs, inner) · xᵀ (inner, rows).
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

    /// Returns how much of the inner dimension one product sums. Tensor cores truncate sums instead of rounding them, so the
    /// error grows with every step. The results of several products are added with rounding.
    private static func innerStep(_ inner: Int) -> Int {
        let pieces = (inner + longestSum - 1) / longestSum
        return ((inner + pieces - 1) / pieces + 63) / 64 * 64
    }
    private static var longestSum: Int { 4608 }

    /// ACTIVATION_SCALE and LOW_SCALE of kernels.cu; they must be equal.
    private static var activationScale: Float { 1 / 256 }
    private static var lowScale: Float { 2048 }
}
