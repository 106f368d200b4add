// Copies weights from their mapped files to the device, piece by piece through pinned memory. On the device, a kernel
// splits the weights into 16-bit parts.

import ArrayFiles
import CUDA
import Files
import Tensors
import Threading

/// Uploads matrices in pieces of 64 MiB. While the device receives a piece, the CPU copies the next one into pinned
/// memory.
final class WeightUpload {
    private struct Slot {
        let pinned: PinnedBuffer
        let staging: DeviceBuffer
        let capacity: Int
        var isFree: CUDAEvent?

        init(_ device: CUDADevice, bytes: Int) throws {
            pinned = try device.pinned(bytes: bytes)
            staging = try device.buffer(bytes: bytes)
            capacity = bytes
        }
    }

    private static let pieceBytes = 64 << 20
    private let device: CUDADevice
    private let threads: ThreadPool
    private var slots: [Slot] = []
    private var next = 0

    /// Returns the bytes of device memory that the upload of `matrices` needs in addition to the matrices themselves.
    static func stagingBytes(_ matrices: [CUDAWeights]) -> Int {
        2 * min(pieceBytes, matrices.map(\.tensor.bytes.count).max() ?? 0)
    }

    init(_ device: CUDADevice, _ threads: ThreadPool) {
        (self.device, self.threads) = (device, threads)
    }

    /// Uploads `weights` in the form `weights.form`. The device may still be working when the function returns.
    func bring(_ weights: CUDAWeights) throws {
        let tensor = weights.tensor
        let (rows, width) = weights.storedShape
        let rowBytes = width * tensor.elementType.size
        guard rows * rowBytes > 0 else {
            throw CUDAError.unsupported("\(tensor.path): tensor \(tensor.name) is empty")
        }
        let data = try device.buffer(bytes: tensor.count * 2 * weights.form.parts)
        let rest = weights.hasRest ? try device.buffer(bytes: tensor.count * 2) : nil
        let step = max(1, WeightUpload.pieceBytes / rowBytes)
        for first in stride(from: 0, to: rows, by: step) {
            let count = min(step, rows - first)
            let staging = try stage(
                UnsafeRawBufferPointer(
                    rebasing: tensor.bytes[first * rowBytes..<(first + count) * rowBytes]))
            let type = [ElementType.float32, .bfloat16, .float16].firstIndex(
                of: tensor.elementType)!
            let offset = first * weights.rowStride * 2
            try device.launch(
                "split_weights",
                grid: (min((count * width + 255) / 256, 16 * device.processorCount), 1), block: 256,
                [
                    .pointer(staging), .int(type), .long(count), .int(width),
                    .int(weights.form.code), .float(weights.form.scale), .pointer(data, offset),
                    .long(weights.rowStride), .long(weights.partStride),
                    .pointer(rest, first * width * 2),
                ])
            slots[next].isFree = try device.event(on: device.compute)
            next = (next + 1) % slots.count
        }
        (weights.data, weights.rest) = (data, rest)
    }

    /// Queues a copy of `bytes` to the staging memory of the next slot. Returns this memory.
    private func stage(_ bytes: UnsafeRawBufferPointer) throws -> DeviceBuffer {
        // Slots are only as large as the matrices need, so a small model takes little memory.
        if slots.count < 2 {
            next = slots.count
            slots.append(try Slot(device, bytes: bytes.count))
        }
        try slots[next].isFree?.synchronize()
        if bytes.count > slots[next].capacity {
            slots[next] = try Slot(device, bytes: bytes.count)
        }
        let slot = slots[next]
        nonisolated(unsafe) let (source, target) = (bytes.baseAddress!, slot.pinned.pointer)
        let piece = 1 << 20
        let total = bytes.count
        threads.forEach((total + piece - 1) / piece) { item, _ in
            let range = item * piece..<min((item + 1) * piece, total)
            (target + range.lowerBound).copyMemory(
                from: source + range.lowerBound, byteCount: range.count)
        }
        try device.copy(target, to: slot.staging, bytes: total, on: device.compute)
        return slot.staging
    }
}

/// Properties of a matrix that determine its float16 form.
struct WeightSurvey {
    /// Whether all elements have at most 11 significant bits, as float16 and bfloat16 numbers have. Then one float16
    /// part holds the scaled elements exactly, except those below 2⁻²⁹ times the largest, which do not matter in a
    /// sum.
    let isShort: Bool
    /// All elements are multiplied by 2 to the power of `exponent`. The largest magnitude is then from 2¹⁴ to 2¹⁵,
    /// below the limit of float16, 2¹⁶.
    let exponent: Int

    /// Examines all elements of `tensor` on `threads`.
    init(_ tensor: StoredTensor, _ threads: ThreadPool) {
        let step = 1 << 20
        let pieces = (tensor.count + step - 1) / step
        var found = [(bits: UInt32, largest: UInt32)](repeating: (0, 0), count: pieces)
        found.withUnsafeMutableBufferPointer { found in
            nonisolated(unsafe) let found = found
            threads.forEach(pieces) { item, _ in
                let range = item * step..<min((item + 1) * step, tensor.count)
                found[item] = WeightSurvey.look(at: tensor, range)
            }
        }
        let bits = found.reduce(0) { $0 | $1.bits }
        let largest = Float(bitPattern: found.reduce(0) { max($0, $1.largest) })
        isShort = bits & 0x1FFF == 0
        // There is no scaling if all elements are 0, or if one is NaN or infinite. A NaN or infinity is found later,
        // in the results.
        exponent = largest.isFinite && largest > 0 ? min(14 - Int(largest.exponent), 100) : 0
    }

    /// Returns the bits that are set in any element of `range`, and the largest magnitude as bits.
    private static func look(
        at tensor: StoredTensor, _ range: Range<Int>
    ) -> (bits: UInt32, largest: UInt32) {
        typealias Bits = SIMD16<UInt32>
        var (bits, largest) = (Bits(repeating: 0), Bits(repeating: 0))
        var block = [Float](repeating: 0, count: 4096)
        for first in stride(from: range.lowerBound, to: range.upperBound, by: block.count) {
            let count = min(block.count, range.upperBound - first)
            block.withUnsafeMutableBufferPointer { block in
                tensor.convert(from: first, count: count, to: block.baseAddress!)
                for i in count..<max(count, (count + 15) / 16 * 16) { block[i] = 0 }
                let base = UnsafeRawPointer(block.baseAddress!)
                for i in stride(from: 0, to: count, by: 16) {
                    let lanes = (base + 4 * i).loadUnaligned(as: Bits.self)
                    let magnitude = lanes & 0x7FFF_FFFF
                    bits |= lanes
                    largest.replace(with: magnitude, where: magnitude .> largest)
                }
            }
        }
        var all: UInt32 = 0
        for lane in bits.indices { all |= bits[lane] }
        return (all, largest.max())
    }
}
