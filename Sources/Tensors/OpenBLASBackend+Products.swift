// Matrix products, cut into blocks of outputs: each block is multiplied by one thread, so a block's bits do not depend on
// how many threads there are.

import ArrayFiles
import COpenBLAS
import Threading

/// How a product's outputs are cut. Depends on the weights and the kind of product alone.
struct OutputBlocks {
    let width: Int
    let outputs: Int

    init(for weights: OpenBLASBackend.Weights, _ bfloat16: BFloat16Kernels?) {
        outputs = weights.outputs
        let (limit, step): (Int, Int)
        if let bfloat16 {
            // Whole blocks of lanes; or whole groups of rows that are multiplied together, of any number of them.
            (limit, step) = (512, weights.outputsAreRows ? 24 : bfloat16.block)
        } else if weights.isUsable {
            // OpenBLAS packs the activations for every block anew: few blocks, but where they are wide a dozen of them,
            // for as many threads.
            (limit, step) = (max(512, min(outputs / 12, 1152)), 16)
        } else {
            // The same, and the panel that weights are converted in takes its room once a thread: 2.4 MB, or 128 outputs.
            (limit, step) = (min(512, max(128, 589_824 / max(weights.inputs, 1))), 16)
        }
        // Of equal size and, beyond one, an even number of them but for rounding: two threads end together.
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

/// A product's left factor, as its kernels read it.
struct LeftFactor {
    let rows: Int
    /// Float32, or what `rounded` has made of it.
    let elements: CPUMatrix
}

extension OpenBLASBackend {
    /// x · Wᵀ or x · W, by the weights' layout.
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

    /// `x`, made ready for `multiply` with `weights`.
    func leftFactor(_ x: CPUMatrix, of weights: Weights) -> LeftFactor {
        LeftFactor(
            rows: x.rows, elements: bfloat16.map { rounded(x, for: weights, $0) } ?? x)
    }

    /// Room that `multiply` needs for converting a block of `width` outputs, in floats.
    func panelSize(_ weights: Weights, _ width: Int) -> Int {
        if let bfloat16 { return roundedPanelSize(weights, width, bfloat16) }
        return weights.isUsable ? 1 : weights.inputs * width
    }

    /// One block of a product: columns `range` of the result, written at `out` with rows `stride` apart.
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

    /// The stored floats of `range`'s outputs, in place where they can be used so, else through `panel`.
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
