// Products of bfloat16 operands, summed in float32, by the kernels of CBFloat16. Weights of a bfloat16 checkpoint are
// read in place. Other weights are converted in small blocks, so no weight matrix is copied as a whole.

import ArrayFiles
import CBFloat16
import Tensors
import Threading

/// The bfloat16 kernels for one instruction set.
struct BFloat16Kernels: @unchecked Sendable {
    private let functions: UnsafePointer<bfloat16_kernels>

    /// All kernels that this processor can run, the fastest first.
    static let available: [BFloat16Kernels] = Array(
        sequence(state: 0) { index in
            defer { index += 1 }
            return bfloat16_kernels_at(index).map { BFloat16Kernels(functions: $0) }
        })

    /// The fastest kernels that this processor can run.
    static var best: BFloat16Kernels { available[0] }

    /// The instruction set that the kernels use: "AVX-512 BF16".
    var name: String { String(cString: functions.pointee.name) }
    /// Whether the kernels use the processor's instructions for bfloat16 products.
    var isNative: Bool { functions.pointee.is_native }
    /// Number of rows in a full block of lanes.
    var block: Int { functions.pointee.block }
    /// Maximum number of rows in one call of `multiply`, for the factor that is not in lanes.
    static let rows = Int(BFLOAT16_ROWS)
    /// Number of floats of scratch memory that `multiply` needs.
    var room: Int { BFloat16Kernels.rows * block }

    /// Returns the number of 32-bit words of `rows` rows in lanes (see CBFloat16.h). A row has `pairs` pairs of
    /// bfloat16 numbers.
    func laneWords(rows: Int, pairs: Int) -> Int {
        let vector = functions.pointee.vector
        return (rows + vector - 1) / vector * vector * pairs
    }

    func round(_ x: UnsafeRawPointer, count: Int, to out: UnsafeMutablePointer<UInt16>) {
        functions.pointee.round(x, count, out)
    }

    func packRows(
        _ rows: UnsafePointer<UInt16>, count: Int, pairs: Int,
        to lanes: UnsafeMutablePointer<UInt32>
    ) {
        functions.pointee.pack_rows(rows, 2 * pairs, count, pairs, lanes)
    }

    func packColumns(
        _ first: UnsafeRawPointer, _ second: UnsafeRawPointer?, count: Int,
        to lanes: UnsafeMutablePointer<UInt32>
    ) {
        functions.pointee.pack_columns(first, second, count, lanes)
    }

    /// Calls the kernel `multiply`; see CBFloat16.h.
    func multiply(
        lanes: UnsafePointer<UInt32>, laneCount: Int, pairs: Int, rows: UnsafeRawPointer,
        rowStride: Int, rowCount: Int, lanesFirst: Bool, into out: UnsafeMutablePointer<Float>,
        stride: Int, room: UnsafeMutablePointer<Float>
    ) {
        functions.pointee.multiply(
            lanes, laneCount, pairs, rows, rowStride, rowCount, lanesFirst, out, stride, room)
    }
}

extension OpenBLASBackend {
    /// Whether this processor has instructions for bfloat16 products. Without them, bfloat16 products take at least
    /// as long as float32 products.
    package static var multipliesBFloat16: Bool { BFloat16Kernels.best.isNative }

    /// Rounds `x` to bfloat16, in the form that products with `weights` read. With `weights.outputsAreRows`, the rows
    /// of `x` are packed into lanes (see CBFloat16.h).
    func rounded(_ x: CPUMatrix, for weights: Weights, _ kernels: BFloat16Kernels) -> CPUMatrix {
        let pairs = (x.columns + 1) / 2
        let (block, isPacked) = (kernels.block, weights.outputsAreRows)
        // Each float of `out` holds the bits of a pair of bfloat16 numbers.
        let out = newMatrix(
            isPacked ? kernels.laneWords(rows: x.rows, pairs: pairs) / max(pairs, 1) : x.rows, pairs
        )
        threads.forEach((x.rows + block - 1) / block) { item, thread in
            let rows = item * block..<min((item + 1) * block, x.rows)
            let place = out.row(rows.lowerBound)
            let lines =
                isPacked ? scratch.floats(max(1, rows.count * pairs), thread: thread) : place
            let numbers = UnsafeMutableRawPointer(lines).assumingMemoryBound(to: UInt16.self)
            for (index, row) in rows.enumerated() {
                let line = numbers + index * 2 * pairs
                if x.columns % 2 == 1 { line[x.columns] = 0 }
                kernels.round(x.row(row), count: x.columns, to: line)
            }
            if isPacked {
                kernels.packRows(
                    numbers, count: rows.count, pairs: pairs,
                    to: UnsafeMutableRawPointer(place).assumingMemoryBound(to: UInt32.self))
            }
        }
        return out
    }

    /// Returns the number of floats in the `panel` that `multiplyRounded` needs for a block of `width` outputs.
    func roundedPanelSize(_ weights: Weights, _ width: Int, _ kernels: BFloat16Kernels) -> Int {
        let pairs = (weights.inputs + 1) / 2
        // The panel holds the kernels' scratch memory, then rounded weights, then one or two rows of weights as
        // float32.
        return weights.outputsAreRows
            ? kernels.room + BFloat16Kernels.rows * pairs + weights.inputs
            : kernels.room + kernels.laneWords(rows: width, pairs: pairs) + 2 * width
    }

    /// Computes the columns `range` of a product and writes them to `out`, whose rows are `stride` floats apart. `x`
    /// is the result of `rounded` for a matrix of `rows` rows. `panel` has `roundedPanelSize` floats.
    func multiplyRounded(
        _ x: CPUMatrix, rows: Int, _ weights: Weights, outputs range: Range<Int>,
        panel: UnsafeMutablePointer<Float>, into out: UnsafeMutablePointer<Float>, stride: Int,
        _ kernels: BFloat16Kernels
    ) {
        let pairs = (weights.inputs + 1) / 2
        let factor = UnsafeMutableRawPointer(x.elements).assumingMemoryBound(to: UInt32.self)
        let words = UnsafeMutableRawPointer(panel + kernels.room)
            .assumingMemoryBound(to: UInt32.self)
        if !weights.outputsAreRows { packColumns(weights, range, words, kernels) }
        let count = weights.outputsAreRows ? range.count : rows
        for first in Swift.stride(from: 0, to: count, by: BFloat16Kernels.rows) {
            let rowCount = min(BFloat16Kernels.rows, count - first)
            if weights.outputsAreRows {
                let outputs = range.dropFirst(first).prefix(rowCount)
                kernels.multiply(
                    lanes: factor, laneCount: rows, pairs: pairs,
                    rows: roundedRows(weights, outputs, words, kernels), rowStride: 2 * pairs,
                    rowCount: rowCount, lanesFirst: true, into: out + first, stride: stride,
                    room: panel)
            } else {
                kernels.multiply(
                    lanes: words, laneCount: range.count, pairs: pairs,
                    rows: factor + first * pairs, rowStride: 2 * pairs, rowCount: rowCount,
                    lanesFirst: false, into: out + first * stride, stride: stride, room: panel)
            }
        }
    }

    /// Returns the address of the rows of `outputs` as bfloat16, each padded to a whole number of pairs. Bfloat16
    /// weights with an even number of inputs are read in place. Other weights are converted into `panel`.
    private func roundedRows(
        _ weights: Weights, _ outputs: Range<Int>, _ panel: UnsafeMutablePointer<UInt32>,
        _ kernels: BFloat16Kernels
    ) -> UnsafeRawPointer {
        let (tensor, inputs, pairs) = (weights.tensor, weights.inputs, (weights.inputs + 1) / 2)
        let size = tensor.elementType.size
        if tensor.elementType == .bfloat16, inputs % 2 == 0 {
            return tensor.bytes.baseAddress! + outputs.lowerBound * inputs * size
        }
        let numbers = UnsafeMutableRawPointer(panel).assumingMemoryBound(to: UInt16.self)
        let line = UnsafeMutableRawPointer(panel + BFloat16Kernels.rows * pairs)
            .assumingMemoryBound(to: Float.self)
        for (index, output) in outputs.enumerated() {
            let row = numbers + index * 2 * pairs
            if inputs % 2 == 1 { row[inputs] = 0 }
            if tensor.elementType == .float32 {
                kernels.round(
                    tensor.bytes.baseAddress! + output * inputs * size, count: inputs, to: row)
            } else {
                tensor.convert(from: output * inputs, count: inputs, to: line)
                kernels.round(line, count: inputs, to: row)
            }
        }
        return UnsafeRawPointer(panel)
    }

    /// Packs the columns `outputs` of an (inputs, outputs) matrix into blocks of lanes. One pass over the inputs
    /// fills all blocks, so each input is read as 1 or 2 contiguous KiB. A pass for each block would read at most 256
    /// bytes of an input, each time from another page of memory.
    private func packColumns(
        _ weights: Weights, _ outputs: Range<Int>, _ lanes: UnsafeMutablePointer<UInt32>,
        _ kernels: BFloat16Kernels
    ) {
        let (tensor, inputs, pairs) = (weights.tensor, weights.inputs, (weights.inputs + 1) / 2)
        let lines = UnsafeMutableRawPointer(
            lanes + kernels.laneWords(rows: outputs.count, pairs: pairs)
        ).assumingMemoryBound(to: Float.self)
        func line(_ input: Int) -> UnsafeRawPointer {
            let start = input * weights.outputs + outputs.lowerBound
            if tensor.elementType == .float32 { return tensor.bytes.baseAddress! + 4 * start }
            let place = lines + input % 2 * outputs.count
            tensor.convert(from: start, count: outputs.count, to: place)
            return UnsafeRawPointer(place)
        }
        for pair in 0..<pairs {
            let first = line(2 * pair)
            let second = 2 * pair + 1 < inputs ? line(2 * pair + 1) : nil
            for start in stride(from: 0, to: outputs.count, by: kernels.block) {
                let count = min(kernels.block, outputs.count - start)
                kernels.packColumns(
                    first + 4 * start, second.map { $0 + 4 * start }, count: count,
                    to: lanes + start * pairs + pair * kernels.laneWords(rows: count, pairs: 1))
            }
        }
    }
}
