// Products of float32 matrices by tensor cores, which multiply numbers of 16 bits exactly and sum in float32.
//
// A float32 number is nearly high + low / 2¹¹, both float16: 22 bits of mantissa. With weights w that are float16 numbers,
// which bfloat16 ones are after scaling, x · w = low · w / 2¹¹ + high · w. With others, x · w = [low | high] · [high | low] / 2¹¹
// + high · high, the first being one product of twice the inner dimension; low · low is as small as what the parts leave out
// (Markidis et al. 2018, arXiv 1803.04014; Ootomo & Yokota 2022, arXiv 2203.03341). The small terms are summed first. bfloat16
// parts would do with the same products, but have 16 bits of mantissa together; on the test model that is visible.

import CUDA

extension CUDABackend {
    /// x · Wᵀ or x · W, by the weights' layout.
    public func matmul(_ x: CUDAMatrix, _ weights: CUDAWeights) throws -> CUDAMatrix {
        let out = try newMatrix(x.rows, weights.outputs)
        try multiply(
            x, rows: 0..<x.rows, weights, outputs: 0..<weights.outputs, into: out.floats!)
        return out
    }

    /// Rows `rows` of `x` times the weights of `outputs`: (rows, outputs) in `out`.
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
        // BLAS sees row-major matrices transposed: outᵀ (outputs, rows) = W (outputs, inner) · xᵀ (inner, rows).
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

    /// How much of an inner dimension is summed in one go. Tensor cores cut sums off instead of rounding them, so that the
    /// error grows with every step; results of pieces are added with rounding.
    private static func innerStep(_ inner: Int) -> Int {
        let pieces = (inner + longestSum - 1) / longestSum
        return ((inner + pieces - 1) / pieces + 63) / 64 * 64
    }
    private static var longestSum: Int { 4608 }

    /// The kernels' ACTIVATION_SCALE and LOW_SCALE.
    private static var activationScale: Float { 1 / 256 }
    private static var lowScale: Float { 2048 }
}
