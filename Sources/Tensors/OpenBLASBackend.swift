// The CPU backend: products by OpenBLAS or, of bfloat16 numbers, by CBFloat16; everything else in lanes; all of it shared
// out over threads.

import ArrayFiles
import COpenBLAS
import Glibc
import Threading

/// Computes on the processor's cores.
public final class OpenBLASBackend: Backend {
    /// Activations in memory.
    public typealias Matrix = CPUMatrix
    /// A vector in memory.
    public typealias Vector = [Float]

    /// A weight matrix where it lies on disk.
    public struct Weights {
        let tensor: StoredTensor
        /// Whether a row of the stored matrix makes one output (else one input).
        let outputsAreRows: Bool
        let outputs: Int
        let inputs: Int

        /// Whether the stored floats can be given to BLAS as they are: float32, aligned as floats are.
        var isUsable: Bool {
            tensor.elementType == .float32 && Int(bitPattern: tensor.bytes.baseAddress) % 4 == 0
        }
    }

    /// The threads that share each operation.
    public let threads: ThreadPool
    /// What multiplies bfloat16 numbers; nil where products are of float32 ones.
    let bfloat16: BFloat16Kernels?
    /// Seconds by part.
    public private(set) var partSeconds: [BatchPart: Double] = [:]
    let pool = BufferPool()
    let scratch: ThreadScratch

    /// What a thread that multiplies takes of the address space: 128 MiB that OpenBLAS maps, and a heap.
    private static let threadSpace = 192 << 20

    /// A backend on `threads`. Throws where the system does not give their memory.
    public convenience init(
        on threads: ThreadPool, precision: Precision = .float32
    ) throws(BackendError) {
        try self.init(on: threads, bfloat16: precision == .bfloat16 ? .best : nil)
    }

    /// A backend whose products are of bfloat16 numbers where there are kernels for them.
    init(on threads: ThreadPool, bfloat16: BFloat16Kernels?) throws(BackendError) {
        self.bfloat16 = bfloat16
        // OpenBLAS must not cut products by itself: how it would depends on the number of threads.
        openblas_set_num_threads(1)
        self.threads = threads
        let threadCount = threads.threadCount
        scratch = ThreadScratch(threadCount: threadCount)
        // Where a mapping fails, OpenBLAS would try again for ever.
        let bytes = threadCount * OpenBLASBackend.threadSpace
        let room = mmap(nil, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard room != MAP_FAILED else { throw .noMemory(bytes: bytes, threads: threadCount) }
        munmap(room, bytes)
        OpenBLASBackend.takeBuffers(threadCount)
    }

    /// Has OpenBLAS map the buffers of `count` products at once while there is room. It keeps them for later
    /// products. Its own functions for that are exported, but in none of its headers (driver/others/memory.c).
    private static func takeBuffers(_ count: Int) {
        typealias Allocate = @convention(c) (Int32) -> UnsafeMutableRawPointer?
        typealias Free = @convention(c) (UnsafeMutableRawPointer?) -> Void
        guard let allocate = dlsym(nil, "blas_memory_alloc"),
            let free = dlsym(nil, "blas_memory_free")
        else { return }
        let buffers = (0..<count).map { _ in unsafeBitCast(allocate, to: Allocate.self)(0) }
        for buffer in buffers { unsafeBitCast(free, to: Free.self)(buffer) }
    }

    /// "OpenBLAS 0.3.21 Haswell".
    public var kernels: String { OpenBLASBackend.library }

    /// Version and kernels of the library that is loaded.
    public static var library: String {
        // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH … Haswell MAX_THREADS=64": name and version go first.
        let configuration = String(cString: openblas_get_config()).split(separator: " ")
        let core = String(cString: openblas_get_corename())
        return (configuration.prefix(2) + [Substring(core)]).joined(separator: " ")
    }

    /// "float32" or, say, "bfloat16 by AVX2".
    public var products: String { bfloat16.map { "bfloat16 by \($0.name)" } ?? "float32" }

    /// Does `body`, which is over when it returns.
    public func measure<R>(_ part: BatchPart, _ body: () throws -> R) rethrows -> R {
        let begin = ContinuousClock.now
        defer { partSeconds[part, default: 0] += (ContinuousClock.now - begin) / .seconds(1) }
        return try body()
    }

    /// Operations are done when they return.
    public var batchesInFlight: Int { 1 }

    /// There is none beside the processor.
    public var deviceSeconds: (busy: Double, span: Double)? { nil }

    /// There is none beside the processor.
    public var deviceMemory: Int? { nil }

    func newMatrix(_ rows: Int, _ columns: Int) -> CPUMatrix {
        CPUMatrix(rows: rows, columns: columns, pool: pool)
    }

    /// Calls `body` with ranges of rows of about 16,000 elements, on all threads.
    func forEachRowRange(_ x: CPUMatrix, _ body: (Range<Int>, _ thread: Int) -> Void) {
        let step = max(1, 16_384 / max(x.columns, 1))
        threads.forEach((x.rows + step - 1) / step) { item, thread in
            body(item * step..<min((item + 1) * step, x.rows), thread)
        }
    }

    // MARK: Weights and data

    /// Takes the matrix where it lies; nothing is copied.
    public func weights(
        _ tensor: StoredTensor, layout: WeightLayout, isTable: Bool = false
    ) -> Weights {
        precondition(tensor.shape.count == 2, "a matrix has two dimensions")
        let outputsFirst = layout == .outputsByInputs
        return Weights(
            tensor: tensor, outputsAreRows: outputsFirst != tensor.isFortranOrder,
            outputs: tensor.shape[outputsFirst ? 0 : 1], inputs: tensor.shape[outputsFirst ? 1 : 0])
    }

    /// Copies the vector as float32.
    public func vector(_ tensor: StoredTensor, adding offset: Float) -> [Float] {
        let values = tensor.floats()
        return offset == 0 ? values : values.map { $0 + offset }
    }

    /// Weights are used where they lie.
    public func load(rows: Int, bytesPerRow: Int, encoders: Int) {}

    /// Nothing of it is left.
    public func abandonBatch() {}

    /// A copy of `elements`.
    public func matrix(rows: Int, columns: Int, _ elements: [Float]) -> CPUMatrix {
        precondition(elements.count == rows * columns)
        let x = newMatrix(rows, columns)
        elements.withUnsafeBufferPointer { source in
            if let base = source.baseAddress { x.elements.update(from: base, count: source.count) }
        }
        return x
    }

    /// A copy of the rows.
    public func elements(of x: CPUMatrix, rows: Range<Int>) -> [Float] {
        withExtendedLifetime(x) {
            Array(
                UnsafeBufferPointer(
                    start: x.row(rows.lowerBound), count: rows.count * x.columns))
        }
    }

    // MARK: Elementwise

    /// Gathers rows of the table.
    public func embed(_ tokens: [Int32], table: Weights, scale: Float) -> CPUMatrix {
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

    /// Root-mean-square norm of each row.
    public func rmsNorm(_ x: CPUMatrix, _ weight: [Float], epsilon: Float) -> CPUMatrix {
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

    /// Rotary embedding: element i and element i + half of each head turn together.
    public func rotate(_ x: CPUMatrix, by table: RotaryTable, at positions: [Int32]) {
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

    /// GeGLU with the tanh approximation of GELU.
    public func geglu(gate: CPUMatrix, up: CPUMatrix) -> CPUMatrix {
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

    /// x += y.
    public func add(_ y: CPUMatrix, to x: CPUMatrix) {
        forEachRowRange(x) { rows, _ in
            let (start, count) = (rows.lowerBound * x.columns, rows.count * x.columns)
            mapLanes(x.elements + start, y.elements + start, to: x.elements + start, count: count) {
                $0 + $1
            }
        }
    }

    /// The lowest row whose sum of 0 · x is not 0.
    public func firstNonFiniteRow(of x: CPUMatrix) -> Deferred<Int?> {
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

/// Turns the pairs (x[i], x[i + half]).
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
