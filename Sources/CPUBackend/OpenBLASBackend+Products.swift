// Matrix products on the CPU, divided into blocks of outputs. One thread computes a whole block, so the bits of the
// result do not depend on the number of threads.

import ArrayFiles
import COpenBLAS
import Tensors
import Threading

/// The division of a product's outputs into blocks. It depends only on the weights and on the kernels.
struct OutputBlocks {
    let width: Int
    let outputs: Int

    init(for weights: OpenBLASBackend.Weights, _ bfloat16: BFloat16Kernels?) {
        outputs = weights.outputs
        let (limit, step): (Int, Int)
        if let bfloat16 {
            // If rows of the weights are outputs, the width is a multiple of 24, because most kernels multiply 4, 6,
            // 8, 12 or 24 rows together. Otherwise the outputs are in lanes, and the width is a multiple of a block
            // of lanes.
            (limit, step) = (512, weights.outputsAreRows ? 24 : bfloat16.block)
        } else if weights.isUsable {
            // OpenBLAS packs the activations again for every block, so blocks should be few. But many outputs are
            // divided into at least 12 blocks, so that 12 threads have work.
            (limit, step) = (max(512, min(outputs / 12, 1152)), 16)
        } else {
            // Each thread converts the weights of its block into a panel. The limit keeps a panel below about 2.4 MB,
            // but is never less than 128 outputs.
            (limit, step) = (min(512, max(128, 589_824 / max(weights.inputs, 1))), 16)
        }
        // All blocks except the last have the same width. An even number of blocks lets two threads end at the same
        // time. (Rounding the width up can make the number odd.)
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
    /// The float32 matrix. For bfloat16 products, the result of `rounded` for that matrix.
    let elements: CPUMatrix
}

extension OpenBLASBackend {
    /// Returns x · Wᵀ or x · W, depending on the layout of the weights.
    package func matmul(_ x: CPUMatrix, _ weights: Weights) -> CPUMatrix {
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

    /// Computes the columns `range` of a product and writes them to `out`, whose rows are `stride` floats apart.
    /// `panel` has `panelSize` floats.
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

    /// Returns the weights of the outputs in `range` as float32, and the distance between their rows in floats.
    /// Weights that BLAS can use are read in place. Other weights are converted into `panel`.
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
