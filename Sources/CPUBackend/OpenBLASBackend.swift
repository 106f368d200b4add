// The CPU backend. OpenBLAS computes float32 products, and CBFloat16 computes bfloat16 products. All other operations
// use vectors of eight floats (VectorMath.swift). The threads share the work of each operation.

import ArrayFiles
import COpenBLAS
import Glibc
import Tensors
import Threading

/// The backend that computes on the cores of the CPU.
package final class OpenBLASBackend: Backend {
    /// Activations in memory.
    package typealias Matrix = CPUMatrix
    /// A weight vector in memory.
    package typealias Vector = [Float]

    /// A weight matrix, read directly from its mapped file.
    package struct Weights {
        let tensor: StoredTensor
        /// Whether the rows of the stored matrix are outputs; otherwise they are inputs.
        let outputsAreRows: Bool
        let outputs: Int
        let inputs: Int

        /// Whether BLAS can read the stored elements in place: they are float32 and aligned to 4 bytes.
        var isUsable: Bool {
            tensor.elementType == .float32 && Int(bitPattern: tensor.bytes.baseAddress) % 4 == 0
        }
    }

    /// The threads that share the work of each operation.
    package let threads: ThreadPool
    /// The kernels for bfloat16 products. Nil if products are in float32.
    let bfloat16: BFloat16Kernels?
    /// Seconds that each part has taken so far.
    package private(set) var partSeconds: [BatchPart: Double] = [:]
    let pool = BufferPool()
    let scratch: ThreadScratch

    /// Address space in bytes that a thread needs for products: 128 MiB for the buffer that OpenBLAS maps, and 64 MiB
    /// for the thread's heap.
    private static let threadSpace = 192 << 20

    /// Creates a backend on `threads`. Throws `CPUBackendError.noMemory` if the system refuses the address space that
    /// the threads need.
    package convenience init(
        on threads: ThreadPool, precision: Precision = .float32
    ) throws(CPUBackendError) {
        try self.init(on: threads, bfloat16: precision == .bfloat16 ? .best : nil)
    }

    /// Creates a backend. With `bfloat16` kernels its products are in bfloat16, otherwise in float32.
    init(on threads: ThreadPool, bfloat16: BFloat16Kernels?) throws(CPUBackendError) {
        self.bfloat16 = bfloat16
        // OpenBLAS must not divide a product among threads. Otherwise the division, and so the bits of the result,
        // would depend on the number of threads.
        openblas_set_num_threads(1)
        self.threads = threads
        let threadCount = threads.threadCount
        scratch = ThreadScratch(threadCount: threadCount)
        // Test that the address space is available, because OpenBLAS retries for ever if it cannot map memory.
        let bytes = threadCount * OpenBLASBackend.threadSpace
        let room = mmap(nil, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard room != MAP_FAILED else { throw .noMemory(bytes: bytes, threads: threadCount) }
        munmap(room, bytes)
        OpenBLASBackend.takeBuffers(threadCount)
    }

    /// Makes OpenBLAS map the buffers of `count` simultaneous products now, while memory is available. OpenBLAS
    /// reuses these buffers. Its library exports the two functions, but no header declares them
    /// (driver/others/memory.c in OpenBLAS).
    private static func takeBuffers(_ count: Int) {
        typealias Allocate = @convention(c) (Int32) -> UnsafeMutableRawPointer?
        typealias Free = @convention(c) (UnsafeMutableRawPointer?) -> Void
        guard let allocate = dlsym(nil, "blas_memory_alloc"),
            let free = dlsym(nil, "blas_memory_free")
        else { return }
        let buffers = (0..<count).map { _ in unsafeBitCast(allocate, to: Allocate.self)(0) }
        for buffer in buffers { unsafeBitCast(free, to: Free.self)(buffer) }
    }

    /// The library, its version and its kernel set: "OpenBLAS 0.3.21 Haswell".
    package var kernels: String { OpenBLASBackend.library }

    /// Name, version and kernel set of the loaded library: "OpenBLAS 0.3.21 Haswell".
    package static var library: String {
        // The configuration is a text such as "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH … Haswell MAX_THREADS=64". Its
        // first two words are name and version.
        let configuration = String(cString: openblas_get_config()).split(separator: " ")
        let core = String(cString: openblas_get_corename())
        return (configuration.prefix(2) + [Substring(core)]).joined(separator: " ")
    }

    /// The kind of products: "float32", or for example "bfloat16 by AVX2", with the name of the bfloat16 kernels.
    package var products: String { bfloat16.map { "bfloat16 by \($0.name)" } ?? "float32" }

    /// Calls `body` and adds its wall time to `partSeconds[part]`.
    package func measure<R>(_ part: BatchPart, _ body: () throws -> R) rethrows -> R {
        let begin = ContinuousClock.now
        defer { partSeconds[part, default: 0] += (ContinuousClock.now - begin) / .seconds(1) }
        return try body()
    }

    /// Always 1, because each operation has finished when it returns.
    package var batchesInFlight: Int { 1 }

    /// Always nil: the CPU backend has no device.
    package var deviceSeconds: (busy: Double, span: Double)? { nil }

    /// Always nil: the CPU backend has no device memory.
    package var deviceMemory: Int? { nil }

    func newMatrix(_ rows: Int, _ columns: Int) -> CPUMatrix {
        CPUMatrix(rows: rows, columns: columns, pool: pool)
    }

    /// Divides the rows of `x` into ranges of about 16,000 elements. The threads call `body` once for each range.
    func forEachRowRange(_ x: CPUMatrix, _ body: (Range<Int>, _ thread: Int) -> Void) {
        let step = max(1, 16_384 / max(x.columns, 1))
        threads.forEach((x.rows + step - 1) / step) { item, thread in
            body(item * step..<min((item + 1) * step, x.rows), thread)
        }
    }

    // MARK: Weights and data

    /// Returns a reference to the matrix in its mapped file. Copies nothing.
    package func weights(
        _ tensor: StoredTensor, layout: WeightLayout, isTable: Bool = false
    ) -> Weights {
        precondition(tensor.shape.count == 2, "a matrix has two dimensions")
        let outputsFirst = layout == .outputsByInputs
        return Weights(
            tensor: tensor, outputsAreRows: outputsFirst != tensor.isFortranOrder,
            outputs: tensor.shape[outputsFirst ? 0 : 1], inputs: tensor.shape[outputsFirst ? 1 : 0])
    }

    /// Copies the vector as float32 and adds `offset` to each element.
    package func vector(_ tensor: StoredTensor, adding offset: Float) -> [Float] {
        let values = tensor.floats()
        return offset == 0 ? values : values.map { $0 + offset }
    }

    /// Does nothing, because weights are read in place.
    package func load(rows: Int, bytesPerRow: Int, encoders: Int) {}

    /// Does nothing, because each operation has finished when it returns.
    package func abandonBatch() {}

    /// Copies `elements`, in row-major order, into a matrix.
    package func matrix(rows: Int, columns: Int, _ elements: [Float]) -> CPUMatrix {
        precondition(elements.count == rows * columns)
        let x = newMatrix(rows, columns)
        elements.withUnsafeBufferPointer { source in
            if let base = source.baseAddress { x.elements.update(from: base, count: source.count) }
        }
        return x
    }

    /// Copies the elements of the rows, in row-major order.
    package func elements(of x: CPUMatrix, rows: Range<Int>) -> [Float] {
        withExtendedLifetime(x) {
            Array(
                UnsafeBufferPointer(
                    start: x.row(rows.lowerBound), count: rows.count * x.columns))
        }
    }

    // MARK: Elementwise

    /// Gathers the rows of `table` for `tokens` and multiplies them by `scale`.
    package func embed(_ tokens: [Int32], table: Weights, scale: Float) -> CPUMatrix {
        let width = table.inputs
        let x = newMatrix(tokens.count, width)
        forEachRowRange(x) { rows, _ in
            for row in rows {
                let out = x.row(row)
                let token = Int(tokens[row])
                if table.outputsAreRows {
                    table.tensor.convert(from: token * width, count: width, to: out)
                } else {
                    for i in 0..<width {
                        table.tensor.convert(
                            from: i * table.outputs + token, count: 1, to: out + i)
                    }
                }
                mapLanes(out, to: out, count: width) { $0 * scale }
            }
        }
        return x
    }

    /// Returns the root-mean-square norm of each row, multiplied by `weight`.
    package func rmsNorm(_ x: CPUMatrix, _ weight: [Float], epsilon: Float) -> CPUMatrix {
        let out = newMatrix(x.rows, x.columns)
        let n = x.columns
        weight.withUnsafeBufferPointer { weight in
            forEachRowRange(x) { rows, _ in
                for row in rows {
                    let (source, target) = (x.row(row), out.row(row))
                    let squares = foldLanes(source, count: n, rest: 0, into: 0) { $0 += $1 * $1 }
                    let scale = 1 / (squares.sum() / Float(n) + epsilon).squareRoot()
                    mapLanes(source, weight.baseAddress!, to: target, count: n) { $0 * scale * $1 }
                }
            }
        }
        return out
    }

    /// Applies the rotary embedding in place. Elements i and i + `halfWidth` of each head are rotated as a pair.
    package func rotate(_ x: CPUMatrix, by table: RotaryTable, at positions: [Int32]) {
        let half = table.halfWidth
        let heads = x.columns / (2 * half)
        table.cosines.withUnsafeBufferPointer { cosines in
            table.sines.withUnsafeBufferPointer { sines in
                forEachRowRange(x) { rows, _ in
                    for row in rows {
                        let angle = Int(positions[row]) * half
                        let (cosine, sine) = (
                            cosines.baseAddress! + angle, sines.baseAddress! + angle
                        )
                        for head in 0..<heads {
                            turn(x.row(row) + 2 * half * head, half, cosine, sine)
                        }
                    }
                }
            }
        }
    }

    /// Returns gelu(gate) · up, with the tanh approximation of GELU.
    package func geglu(gate: CPUMatrix, up: CPUMatrix) -> CPUMatrix {
        let out = newMatrix(gate.rows, gate.columns)
        let n = gate.columns
        forEachRowRange(gate) { rows, _ in
            for row in rows {
                mapLanes(gate.row(row), up.row(row), to: out.row(row), count: n) { x, up in
                    let inner = 0.797_884_560_8 * (x + 0.044_715 * (x * x * x))
                    return 0.5 * x * (1 + inner.hyperbolicTangent) * up
                }
            }
        }
        return out
    }

    /// Adds `y` to `x` in place.
    package func add(_ y: CPUMatrix, to x: CPUMatrix) {
        forEachRowRange(x) { rows, _ in
            let (start, count) = (rows.lowerBound * x.columns, rows.count * x.columns)
            mapLanes(x.elements + start, y.elements + start, to: x.elements + start, count: count) {
                $0 + $1
            }
        }
    }

    /// Returns the lowest row with a NaN or infinity; nil if all elements are finite. The sum of 0 · x over a row is
    /// 0 if the row is finite, otherwise NaN.
    package func firstNonFiniteRow(of x: CPUMatrix) -> Deferred<Int?> {
        var isFinite = [Bool](repeating: true, count: x.rows)
        isFinite.withUnsafeMutableBufferPointer { isFinite in
            nonisolated(unsafe) let isFinite = isFinite
            forEachRowRange(x) { rows, _ in
                for row in rows {
                    let zeros = foldLanes(x.row(row), count: x.columns, rest: 0, into: 0) {
                        $0 += $1 * 0
                    }
                    isFinite[row] = zeros.sum() == 0
                }
            }
        }
        return Deferred(isFinite.firstIndex(of: false))
    }
}

/// Rotates the pairs (x[i], x[i + half]) in place. `cosine[i]` and `sine[i]` belong to the angle of pair i.
private func turn(
    _ x: UnsafeMutablePointer<Float>, _ half: Int, _ cosine: UnsafePointer<Float>,
    _ sine: UnsafePointer<Float>
) {
    let whole = half & ~7
    for i in stride(from: 0, to: whole, by: 8) {
        let (a, b) = (x.lanes(i), x.lanes(i + half))
        let (cosine, sine) = (cosine.lanes(i), sine.lanes(i))
        x.store(a * cosine - b * sine, i)
        x.store(b * cosine + a * sine, i + half)
    }
    for i in whole..<half {
        let (a, b) = (x[i], x[i + half])
        x[i] = a * cosine[i] - b * sine[i]
        x[i + half] = b * cosine[i] + a * sine[i]
    }
}
