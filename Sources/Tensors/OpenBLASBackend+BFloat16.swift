// Products of operands rounded to bfloat16, summed in float32, by the kernels of CBFloat16. No matrix of weights is held a
// second time: those of a bfloat16 checkpoint are read where they lie, others are rounded a panel at a time.

import ArrayFiles
import CBFloat16
import Threading

/// Kernels for one kind of processor.
struct BFloat16Kernels: @unchecked Sendable {
    private let functions: UnsafePointer<bfloat16_kernels>

    /// All that this processor can run, the best first.
    static let available: [BFloat16Kernels] = Array(
        sequence(state: 0) { index in
            defer { index += 1 }
            return bfloat16_kernels_at(index).map { BFloat16Kernels(functions: $0) }
        })

    /// The best for this processor.
    static var best: BFloat16Kernels { available[0] }

    /// The instructions they are made of: "AVX-512 BF16".
    var name: String { String(cString: functions.pointee.name) }
    /// Whether the processor multiplies bfloat16 numbers itself.
    var isNative: Bool { functions.pointee.is_native }
    /// Rows in a full block of lanes.
    var block: Int { functions.pointee.block }
    /// Rows of the other factor that are multiplied at a time.
    static let rows = Int(BFLOAT16_ROWS)
    /// Floats of scratch memory that `multiply` needs.
    var room: Int { BFloat16Kernels.rows * block }

    /// Words that `rows` rows take in lanes, of `pairs` pairs each.
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

    /// See CBFloat16.h.
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
    /// Whether this processor multiplies bfloat16 numbers itself; else it takes as long as with float32, or longer.
    public static var multipliesBFloat16: Bool { BFloat16Kernels.best.isNative }

    /// `x` as products with `weights` read it: rounded, and in lanes where weights lie output by output.
    func rounded(_ x: CPUMatrix, for weights: Weights, _ kernels: BFloat16Kernels) -> CPUMatrix {
        let pairs = (x.columns + 1) / 2
        let (block, isPacked) = (kernels.block, weights.outputsAreRows)
        // Floats stand for pairs of bfloat16 numbers.
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

    /// Floats that `multiplyRounded` needs beside the result, for a block of `width` outputs.
    func roundedPanelSize(_ weights: Weights, _ width: Int, _ kernels: BFloat16Kernels) -> Int {
        let pairs = (weights.inputs + 1) / 2
        // The kernels' own, a panel of weights, and a line or two of them as float32.
        return weights.outputsAreRows
            ? kernels.room + BFloat16Kernels.rows * pairs + weights.inputs
            : kernels.room + kernels.laneWords(rows: width, pairs: pairs) + 2 * width
    }

    /// One block of a product: columns `range` of the result, written at `out` with rows `stride` apart. `x` is what
    /// `rounded` has made of a matrix of `rows` rows.
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

    /// The weights of `outputs`, each output's in a row of whole pairs: in place where they are so, else in `panel`.
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

    /// Packs the weights of `outputs`, which lie input by input, into blocks of lanes, all of them at once: of each input
    /// a kilobyte or two are read in a row. A single block of lanes would be 64 to 256 bytes of each, every time in
    /// another page of memory.
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
