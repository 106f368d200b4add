// Matrix products, cut into blocks of outputs. One thread computes a block, so the bits of a block do not depend on the
// number of threads.

import ArrayFiles
import COpenBLAS
import Tensors
import Threading

/// How the outputs of a product are cut into blocks. It depends only on the weights and on the kind of product.
struct OutputBlocks {
    let width: Int
    let outputs: Int

    init(for weights: OpenBLASBackend.Weights, _ bfloat16: BFloat16Kernels?) {
        outputs = weights.outputs
        let (limit, step): (Int, Int)
        if let bfloat16 {
            // Outputs in lanes: whole blocks of lanes. Outputs in rows: a multiple of 24, because the kernels multiply 4, 6, 8,
            // 12 or 24 rows together (16 with AVX-512 and one vector of lanes).
            (limit, step) = (512, weights.outputsAreRows ? 24 : bfloat16.block)
        } else if weights.isUsable {
            // OpenBLAS packs the activations again for every block, so blocks should be few. A product with many outputs still
            // has at least a dozen blocks, so that a dozen threads have work.
            (limit, step) = (max(512, min(outputs / 12, 1152)), 16)
        } else {
            // As above; in addition, each thread needs a panel for the converted weights. A panel has at most 2.4 MB, or 128
            // outputs if they take more.
            (limit, step) = (min(512, max(128, 589_824 / max(weights.inputs, 1))), 16)
        }
        // Blocks have equal size. If there are several, their number is even (except for rounding), so that two threads end
        // at the same time.
        var count = (outputs + limit - 1) / limit
        if count > 1, count % 2 == 1 { count += 1 }
        let equal = (outputs + max(count, 1) - 1) / max(count, 1)
        width = max(step, (equal + step - 1) / step * step)
    }

    var count: Int { (outputs + width - 1) / width }

    func range(_ index: Int) -> Range<Int> {
        index * width..<min((index + 1) * width, outputs)
    }
}

/// The left factor of a product, in the form that the kernels read.
struct LeftFactor {
    let rows: Int
    /// The float32 matrix, or the result of `rounded` for it.
    let elements: CPUMatrix
}

extension OpenBLASBackend {
    /// Returns x · Wᵀ or x · W, depending on the layout of the weights.
    public func matmul(_ x: CPUMatrix, _ weights: Weights) -> CPUMatrix {
        precondition(x.columns == weights.inputs, "the product's inner sizes differ")
        let out = newMatrix(x.rows, weights.outputs)
        let blocks = OutputBlocks(for: weights, bfloat16)
        let factor = leftFactor(x, of: weights)
        threads.forEach(blocks.count) { block, thread in
            let range = blocks.range(block)
            let panel = scratch.floats(panelSize(weights, range.count), thread: thread)
            multiply(
                factor, weights, outputs: range, panel: panel,
                into: out.elements + range.lowerBound, stride: out.columns)
        }
        return out
    }

    /// Converts `x` to the form that `multiply` with `weights` reads.
    func leftFactor(_ x: CPUMatrix, of weights: Weights) -> LeftFactor {
        LeftFactor(
            rows: x.rows, elements: bfloat16.map { rounded(x, for: weights, $0) } ?? x)
    }

    /// Returns the number of floats in the `panel` that `multiply` needs for a block of `width` outputs.
    func panelSize(_ weights: Weights, _ width: Int) -> Int {
        if let bfloat16 { return roundedPanelSize(weights, width, bfloat16) }
        return weights.isUsable ? 1 : weights.inputs * width
    }

    /// Computes one block of a product: columns `range` of the result, written to `out` with `stride` floats from row to row.
    func multiply(
        _ x: LeftFactor, _ weights: Weights, outputs range: Range<Int>,
        panel: UnsafeMutablePointer<Float>, into out: UnsafeMutablePointer<Float>, stride: Int
    ) {
        if let bfloat16 {
            multiplyRounded(
                x.elements, rows: x.rows, weights, outputs: range, panel: panel, into: out,
                stride: stride, bfloat16)
            return
        }
        let inputs = weights.inputs
        let (operand, operandStride) = block(of: weights, outputs: range, panel: panel)
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, weights.outputsAreRows ? CblasTrans : CblasNoTrans,
            blasint(x.rows), blasint(range.count), blasint(inputs), 1, x.elements.elements,
            blasint(inputs),
            operand, blasint(operandStride), 0, out, blasint(stride))
    }

    /// Returns the weights of the outputs in `range` as float32, and their row stride in floats. They are read in place if BLAS
    /// can use them; otherwise they are converted into `panel`.
    private func block(
        of weights: Weights, outputs range: Range<Int>, panel: UnsafeMutablePointer<Float>
    ) -> (UnsafePointer<Float>, stride: Int) {
        let tensor = weights.tensor
        if weights.isUsable {
            let base = tensor.bytes.baseAddress!.assumingMemoryBound(to: Float.self)
            return weights.outputsAreRows
                ? (base + range.lowerBound * weights.inputs, weights.inputs)
                : (base + range.lowerBound, weights.outputs)
        }
        if weights.outputsAreRows {
            tensor.convert(
                from: range.lowerBound * weights.inputs, count: range.count * weights.inputs,
                to: panel)
            return (UnsafePointer(panel), weights.inputs)
        }
        for input in 0..<weights.inputs {
            tensor.convert(
                from: input * weights.outputs + range.lowerBound, count: range.count,
                to: panel + input * range.count)
        }
        return (UnsafePointer(panel), range.count)
    }
}
