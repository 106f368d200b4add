// Weights from their mapped files to the device: copied through pinned memory piece by piece, and taken apart there.

import ArrayFiles
import CUDA
import Synchronization

/// A way for many matrices. One piece is copied into pinned memory while the one before is on its way.
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

    init(_ device: CUDADevice, _ threads: ThreadPool) throws {
        (self.device, self.threads) = (device, threads)
    }

    /// Makes `weights` resident in as many parts as it says. The device may still be at it.
    func bring(_ weights: CUDAWeights) throws {
        let tensor = weights.tensor
        let (rows, width) = weights.storedShape
        let rowBytes = width * tensor.elementType.size
        guard rows * rowBytes > 0 else {
            throw CUDAError.unsupported("\(tensor.path): tensor \(tensor.name) is empty")
        }
        let data = try device.buffer(bytes: tensor.count * 2 * weights.partCount)
        let rest =
            weights.isTable && weights.partCount == 2
            ? try device.buffer(bytes: tensor.count * 2) : nil
        let step = max(1, WeightUpload.pieceBytes / rowBytes)
        for first in stride(from: 0, to: rows, by: step) {
            let count = min(step, rows - first)
            let staging = try stage(
                UnsafeRawBufferPointer(
                    rebasing: tensor.bytes[first * rowBytes..<(first + count) * rowBytes]))
            let type = [ElementType.float32, .bfloat16, .float16].firstIndex(of: tensor.elementType)!
            let offset = first * weights.rowStride * 2
            try device.launch(
                "split_weights",
                grid: (min((count * width + 255) / 256, 16 * device.processorCount), 1), block: 256,
                [
                    .pointer(staging), .int(type), .long(count), .int(width),
                    .int(weights.partCount), .pointer(data, offset), .long(weights.rowStride),
                    .long(weights.partStride), .pointer(rest, first * width * 2),
                ])
            slots[next].isFree = try device.event(on: device.compute)
            next = (next + 1) % slots.count
        }
        (weights.data, weights.rest) = (data, rest)
    }

    /// The next slot's staging memory, with `bytes` on their way to it.
    private func stage(_ bytes: UnsafeRawBufferPointer) throws -> DeviceBuffer {
        // As large as matrices ask for: a small model's take little.
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

/// Raised by whichever thread finds it first.
final class InexactFlag: Sendable {
    private let value = Atomic<Bool>(false)

    var isRaised: Bool { value.load(ordering: .relaxed) }

    func raise() { value.store(true, ordering: .relaxed) }
}
