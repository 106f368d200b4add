// Activations in memory, and the store of buffers that lets a steady state allocate nothing.

import ArrayFiles
import Files

/// A row-major float32 matrix on the CPU; its buffer goes back to its pool with the last reference.
public final class CPUMatrix {
    /// Number of rows.
    public let rows: Int
    /// Number of columns.
    public let columns: Int
    let elements: UnsafeMutablePointer<Float>
    private let buffer: BufferPool.Buffer
    private let pool: BufferPool

    init(rows: Int, columns: Int, pool: BufferPool) {
        self.rows = rows
        self.columns = columns
        self.pool = pool
        buffer = pool.take(rows * columns)
        elements = buffer.base
    }

    deinit { pool.give(buffer) }

    func row(_ index: Int) -> UnsafeMutablePointer<Float> { elements + index * columns }
}

/// Free buffers, reused by size. Used from one thread at a time.
final class BufferPool {
    struct Buffer {
        let base: UnsafeMutablePointer<Float>
        let capacity: Int
    }

    private var free: [Buffer] = []  // ascending capacity

    func take(_ count: Int) -> Buffer {
        if let index = free.firstIndex(where: { $0.capacity >= count }) {
            return free.remove(at: index)
        }
        // All free ones are too small: the largest gives way, so sizes grow to fit instead of piling up.
        if let small = free.popLast() { small.base.deallocate() }
        let raw = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1) * 4, alignment: 64)
        return Buffer(
            base: raw.bindMemory(to: Float.self, capacity: max(count, 1)), capacity: count)
    }

    func give(_ buffer: Buffer) {
        let index = free.firstIndex { $0.capacity >= buffer.capacity } ?? free.endIndex
        free.insert(buffer, at: index)
    }

    deinit {
        for buffer in free { buffer.base.deallocate() }
    }
}

/// One growing buffer a thread, for what a piece of work needs only while it runs.
final class ThreadScratch: @unchecked Sendable {
    /// A slot for each thread, each touched by its thread alone.
    private let buffers: UnsafeMutableBufferPointer<UnsafeMutableBufferPointer<Float>>

    init(threadCount: Int) {
        buffers = .allocate(capacity: threadCount)
        buffers.initialize(repeating: UnsafeMutableBufferPointer(start: nil, count: 0))
    }

    /// Room for `count` floats that belongs to `thread`; what was in it is gone.
    func floats(_ count: Int, thread: Int) -> UnsafeMutablePointer<Float> {
        if buffers[thread].count < count {
            buffers[thread].deallocate()
            let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: count * 4, alignment: 64)
            buffers[thread] = raw.bindMemory(to: Float.self)
        }
        return buffers[thread].baseAddress!
    }

    deinit {
        for buffer in buffers { buffer.deallocate() }
        buffers.deallocate()
    }
}
