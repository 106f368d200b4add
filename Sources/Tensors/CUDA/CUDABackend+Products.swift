// Products of float32 matrices by tensor cores, which multiply bfloat16 numbers exactly and sum in float32.
//
// A float32 number is nearly high + low, both bfloat16: 16 bits of mantissa. With weights w that are bfloat16 numbers,
// x · w = low · w + high · w. With others, x · w = [low | high] · [high | low] + high · high, the first being one product of
// twice the inner dimension; low · low is below what the parts leave out (Henry, Tang & Heinecke 2019, arXiv 1904.06376).
// The small terms are summed first. Errors stay below 1e-5 of the result (Frobenius).

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
        func product(xPart: Int, inner width: Int, isAdding: Bool) throws {
            try device.multiply(
                CUDADevice.Operand(
                    data, offset: 2 * firstOutput,
                    leadingDimension: weights.outputsAreRows ? weights.rowStride : weights.outputs,
                    isTransposed: weights.outputsAreRows),
                CUDADevice.Operand(
                    operand, offset: 2 * (rows.lowerBound * parts + xPart) * inner,
                    leadingDimension: inner * parts, isTransposed: false),
                m: outputs.count, n: rows.count, k: width, isAdding: isAdding, into: out)
        }
        switch (parts, weights.partCount) {
        case (1, _):
            try product(xPart: 0, inner: inner, isAdding: false)
        case (_, 1):
            try product(xPart: 0, inner: inner, isAdding: false)
            try product(xPart: 1, inner: inner, isAdding: true)
        default:
            try product(xPart: 0, inner: 2 * inner, isAdding: false)
            try product(xPart: 1, inner: inner, isAdding: true)
        }
    }
}
