// Activations in memory, and the pool of their buffers. Once the pool has buffers of all sizes that a batch needs, no
// more memory is allocated.

import ArrayFiles
import Files
import Tensors

/// A row-major float32 matrix in memory. When the last reference is released, the buffer returns to the pool.
package final class CPUMatrix {
    /// Number of rows.
    package let rows: Int
    /// Number of columns.
    package let columns: Int
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

/// A pool of free buffers, which are reused by size. Only one thread at a time may use the pool.
final class BufferPool {
    struct Buffer {
        let base: UnsafeMutablePointer<Float>
        let capacity: Int
    }

    private var free: [Buffer] = []  // in ascending order of capacity

    func take(_ count: Int) -> Buffer {
        if let index = free.firstIndex(where: { $0.capacity >= count }) {
            return free.remove(at: index)
        }
        // All free buffers are too small. The largest is released before a larger one is allocated, so that the
        // number of buffers does not grow.
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

/// Scratch memory for the pieces of work. Each thread has one buffer, which grows when a piece needs more.
final class ThreadScratch: @unchecked Sendable {
    /// One slot for each thread. Only the thread of a slot accesses it.
    private let buffers: UnsafeMutableBufferPointer<UnsafeMutableBufferPointer<Float>>

    init(threadCount: Int) {
        buffers = .allocate(capacity: threadCount)
        buffers.initialize(repeating: UnsafeMutableBufferPointer(start: nil, count: 0))
    }

    /// Returns the buffer of `thread` with room for `count` floats, aligned to 64 bytes. The earlier content of the
    /// buffer may be lost.
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
