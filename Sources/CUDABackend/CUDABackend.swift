// The CUDA backend. cuBLAS computes products on tensor cores, and the kernels of CCUDA/kernels.cu compute everything
// else. An operation queues its work on the device and returns at once. So the CPU does not wait for the device
// during a batch.

import ArrayFiles
import CUDA
import Files
import Tensors
import Threading

/// The backend that computes on an NVIDIA device.
package final class CUDABackend: Backend {
    /// Activations on the device.
    package typealias Matrix = CUDAMatrix
    /// A weight matrix on the device.
    package typealias Weights = CUDAWeights
    /// A float32 weight vector on the device.
    package typealias Vector = DeviceBuffer

    /// The device.
    package let device: CUDADevice
    let precision: Precision
    /// CPU threads that examine weights and copy them to pinned memory.
    let threads: ThreadPool
    /// Number of 16-bit parts into which activations are split for products.
    var parts: Int { precision == .float32 ? 2 : 1 }

    private var waiting: [CUDAWeights] = []
    private var loaded: (short: Int, long: Int) = (0, 0)
    /// The last rotary table that `rotate` received, and its copy on the device. A model has only one table.
    private var rotary: (table: RotaryTable, cosines: DeviceBuffer, sines: DeviceBuffer)?
    /// Data of the current batch on the device, for all layers: the positions of its rows for `rotate`, and the
    /// pieces of work for `attention`.
    private var positions: (host: [Int32], device: DeviceBuffer)?
    private var pieces: (starts: [Int], count: Int, group: Int, device: DeviceBuffer)?
    /// The largest number of rows of a batch so far, rounded up to a multiple of 256. New buffers have room for this
    /// many rows, so that later batches can reuse them.
    private var rowCapacity = 0
    /// The average number of entries per row for which `jumpReLU` reserves memory. After an overflow, it is doubled
    /// until all entries fit.
    var entriesPerRow = 256
    /// The start of the current batch; nil outside of a batch.
    var batchStart: CUDAEvent?
    /// Pinned copies of the data that the current batch has uploaded, kept until the device has computed the batch.
    var batchUploads: [PinnedBuffer] = []
    private var firstStart: CUDAEvent?
    private var busySeconds = 0.0
    private var spanSeconds = 0.0

    /// Maximum number of bytes of a chunk of logits or pre-activations.
    static let chunkBytes = 512 << 20

    /// Always empty. Operations only queue work, so the time of a part is not known.
    package var partSeconds: [BatchPart: Double] { [:] }

    /// Calls `body` and measures nothing; see `partSeconds`.
    package func measure<R>(_ part: BatchPart, _ body: () throws -> R) rethrows -> R { try body() }

    /// Opens the first device that this process can see (CUDA_VISIBLE_DEVICES). Throws `CUDAError`.
    package init(
        precision: Precision, threads: ThreadPool, environment: [String: String]
    ) throws {
        device = try CUDADevice(environment: environment)
        (self.precision, self.threads) = (precision, threads)
    }

    /// Device, driver and libraries, with versions: "NVIDIA H100 80GB HBM3 (9.0), driver 13.0, cudart 12.9, cuBLAS
    /// 12.9.1".
    package var kernels: String { "\(device.description), \(device.versions)" }

    /// The way in which products are computed: "float32 by products of float16 parts: …". The counts of matrices in
    /// the text are correct after `load`.
    package var products: String {
        switch precision {
        case .bfloat16: "bfloat16: one product of rounded operands, summed in float32"
        case .float32:
            "float32 by products of float16 parts: 2 where weights have 11 significant bits or less, as bfloat16 numbers have (\(loaded.short) of \(loaded.short + loaded.long) matrices), else 3"
        }
    }

    /// Always 3: the device computes one batch, a second is queued so that the device never waits, and the results of
    /// a third are collected.
    package var batchesInFlight: Int { 3 }

    /// Seconds of the batches collected so far, measured by the device's clock.
    package var deviceSeconds: (busy: Double, span: Double)? { (busySeconds, spanSeconds) }

    /// Bytes in use on the device, by all processes. Free buffers in the pool of this process count as free. Nil if
    /// the driver fails.
    package var deviceMemory: Int? { (try? device.memory()).map { $0.total - $0.free } }

    /// Adds the device time of one batch, from `start` to `end`, to the totals. Call this function after the results
    /// of the batch have arrived.
    func finishBatch(_ start: CUDAEvent, _ end: CUDAEvent) {
        // An error in reading the times is ignored, because the results of the batch are valid without the times.
        busySeconds += (try? end.seconds(since: start)) ?? 0
        spanSeconds = (try? end.seconds(since: firstStart ?? start)) ?? spanSeconds
        if firstStart == nil { firstStart = start }
    }

    // MARK: Weights

    /// Registers the matrix, which `load` then copies to the device.
    package func weights(
        _ tensor: StoredTensor, layout: WeightLayout, isTable: Bool = false
    ) -> CUDAWeights {
        let weights = CUDAWeights(tensor, layout: layout, isTable: isTable)
        waiting.append(weights)
        return weights
    }

    /// Copies the vector to the device as float32, with `offset` added to each element.
    package func vector(_ tensor: StoredTensor, adding offset: Float) throws -> DeviceBuffer {
        try upload(tensor.floats().map { $0 + offset })
    }

    /// Checks that the device has enough free memory, then copies the registered matrices to the device. Throws
    /// `CUDAError.tooSmall` if the memory is not enough.
    package func load(rows: Int, bytesPerRow: Int, encoders: Int) throws {
        for weights in waiting where precision == .float32 {
            let survey = WeightSurvey(weights.tensor, threads)
            weights.form = .float16(parts: survey.isShort ? 1 : 2, exponent: survey.exponent)
            if survey.isShort { loaded.short += 1 } else { loaded.long += 1 }
        }
        let matrices = waiting.reduce(0) { $0 + $1.bytes } + WeightUpload.stagingBytes(waiting)
        // A batch needs two chunks, one of logits and one of pre-activations.
        let widest = waiting.map(\.outputs).max() ?? 0
        let results = encoders * 8 * entriesPerRow
        let batch =
            rows * (bytesPerRow + results) + 2 * min(CUDABackend.chunkBytes, rows * widest * 4)
        let (free, total) = try device.memory()
        guard matrices + batch <= free else {
            throw CUDAError.tooSmall(
                needed: matrices + batch, free: free, total: total,
                parts:
                    "weights and encoders: \(matrices >> 20) MiB, a batch of \(rows) tokens: \(batch >> 20) MiB"
            )
        }
        let upload = WeightUpload(device, threads)
        for weights in waiting { try upload.bring(weights) }
        try device.compute.synchronize()
        waiting = []
    }

    // MARK: Data

    /// Waits until the device has finished all queued work, because queued copies may still read or write memory that
    /// the caller is about to reuse. Resets `rowCapacity`, because after a shortage of memory the next batch may be
    /// smaller.
    package func abandonBatch() {
        try? device.compute.synchronize()
        (batchStart, batchUploads, rowCapacity) = (nil, [], 0)
        (positions, pieces) = (nil, nil)
    }

    /// Returns a buffer for `rows` rows of `bytesPerRow` bytes. Unless `rows` is small, the buffer has room for the
    /// largest batch so far, so that other batches can reuse it.
    func rowBuffer(_ rows: Int, bytesPerRow: Int) throws -> DeviceBuffer {
        if rows > rowCapacity { rowCapacity = (rows + 255) / 256 * 256 }
        // A batch with less than a quarter of `rowCapacity` rows gets a buffer of exactly its size.
        let capacity = rows * 4 < rowCapacity ? rows : rowCapacity
        return try device.buffer(bytes: capacity * bytesPerRow)
    }

    func newMatrix(_ rows: Int, _ columns: Int) throws -> CUDAMatrix {
        CUDAMatrix(
            rows: rows, columns: columns, floats: try rowBuffer(rows, bytesPerRow: columns * 4))
    }

    /// Copies `values` to the device. During a batch, the copy goes through pinned memory, so the call does not wait
    /// for the device. Outside of a batch, the call returns when all bytes of `values` have been read.
    func upload<Element: BitwiseCopyable>(_ values: [Element]) throws -> DeviceBuffer {
        let bytes = values.count * MemoryLayout<Element>.stride
        let buffer = try device.buffer(bytes: bytes)
        try values.withUnsafeBytes { source in
            guard var base = source.baseAddress else { return }
            if batchStart != nil {
                let pinned = try device.pinned(bytes: bytes)
                pinned.pointer.copyMemory(from: base, byteCount: bytes)
                batchUploads.append(pinned)
                base = UnsafeRawPointer(pinned.pointer)
            }
            try device.copy(base, to: buffer, bytes: bytes, on: device.compute)
        }
        return buffer
    }

    /// Copies `elements`, in row-major order, to a matrix on the device.
    package func matrix(rows: Int, columns: Int, _ elements: [Float]) throws -> CUDAMatrix {
        precondition(elements.count == rows * columns)
        return CUDAMatrix(rows: rows, columns: columns, floats: try upload(elements))
    }

    /// Waits for the device and copies the elements of the rows, in row-major order.
    package func elements(of x: CUDAMatrix, rows: Range<Int>) throws -> [Float] {
        let floats = try floats(of: x)
        var out = [Float](repeating: .nan, count: rows.count * x.columns)
        try out.withUnsafeMutableBytes { out in
            guard let base = out.baseAddress else { return }
            try device.copy(
                floats, offset: rows.lowerBound * x.columns * 4, to: base, bytes: out.count,
                on: device.compute)
            try device.compute.synchronize()
        }
        return out
    }

    // MARK: Forms of a matrix

    /// Returns `x` as float32. Computes this form first if it does not exist.
    func floats(of x: CUDAMatrix) throws -> DeviceBuffer {
        if let floats = x.floats { return floats }
        let floats = try rowBuffer(x.rows, bytesPerRow: x.columns * 4)
        try cook(x, floats: floats, parts: nil)
        x.floats = floats
        return floats
    }

    /// Returns `x` in 16-bit parts, the form that products read. Computes this form first if it does not exist.
    func operand(of x: CUDAMatrix) throws -> DeviceBuffer {
        if let parts = x.parts { return parts }
        let buffer = try rowBuffer(x.rows, bytesPerRow: x.columns * parts * 2)
        if let floats = x.floats {
            try device.launch(
                "split_rows", grid: (x.rows, 1), block: CUDABackend.block(x.columns),
                [.pointer(floats), .pointer(buffer), .int(parts), .int(x.columns)])
        } else {
            try cook(x, floats: nil, parts: buffer)
        }
        x.parts = buffer
        return buffer
    }

    /// Computes `x` from its recipe. Writes it to `out` as float32, and to `split` in 16-bit parts. Does not write a
    /// form whose buffer is nil.
    private func cook(_ x: CUDAMatrix, floats out: DeviceBuffer?, parts split: DeviceBuffer?) throws
    {
        switch x.recipe {
        case .norm(let source, let version, let weight, let epsilon):
            precondition(source.version == version, "a norm's input changed before it was computed")
            try device.launch(
                "rms_norm", grid: (x.rows, 1), block: CUDABackend.block(x.columns),
                [
                    .pointer(try floats(of: source)), .pointer(weight), .pointer(out),
                    .pointer(split), .int(parts), .int(x.columns), .float(epsilon),
                ])
        case .geglu(let gate, let up):
            try device.launch(
                "geglu", grid: (x.rows, 1), block: CUDABackend.block(x.columns),
                [
                    .pointer(try floats(of: gate)), .pointer(try floats(of: up)), .pointer(out),
                    .pointer(split), .int(parts), .int(x.columns),
                ])
        case nil: preconditionFailure("a matrix without floats has a recipe")
        }
    }

    /// Returns the number of threads in a block that processes one row of `width` elements.
    static func block(_ width: Int) -> Int { width >= 1024 ? 256 : width >= 256 ? 128 : 32 }

    // MARK: Elementwise

    /// Begins a batch. Gathers the rows of `table` for `tokens` and multiplies them by `scale`.
    package func embed(_ tokens: [Int32], table: CUDAWeights, scale: Float) throws -> CUDAMatrix {
        precondition(table.isTable && table.outputsAreRows, "a table is stored by rows")
        batchStart = try device.event(on: device.compute, isTimed: true)
        batchUploads = []
        let x = try newMatrix(tokens.count, table.inputs)
        try device.launch(
            "embed_rows", grid: (tokens.count, 1), block: CUDABackend.block(table.inputs),
            [
                .pointer(try upload(tokens)), .pointer(table.data), .pointer(table.rest),
                .int(table.form.code), .float(1 / table.form.scale), .long(table.rowStride),
                .pointer(x.floats), .int(table.inputs), .float(scale),
            ])
        return x
    }

    /// Returns a recipe for the root-mean-square norm of each row. The norm is computed later, when it is used (see
    /// `CUDAMatrix`).
    package func rmsNorm(
        _ x: CUDAMatrix, _ weight: DeviceBuffer, epsilon: Float
    ) throws -> CUDAMatrix {
        _ = try floats(of: x)
        return CUDAMatrix(
            rows: x.rows, columns: x.columns,
            recipe: .norm(of: x, version: x.version, weight: weight, epsilon: epsilon))
    }

    /// Applies the rotary embedding in place. Elements i and i + `halfWidth` of each head are rotated as a pair.
    package func rotate(_ x: CUDAMatrix, by table: RotaryTable, at rows: [Int32]) throws {
        if rotary?.table.halfWidth != table.halfWidth || rotary?.table.cosines != table.cosines {
            rotary = (table, try upload(table.cosines), try upload(table.sines))
        }
        if positions?.host != rows { positions = (rows, try upload(rows)) }
        x.change()
        let heads = x.columns / (2 * table.halfWidth)
        try device.launch(
            "rotate", grid: (x.rows, 1), block: CUDABackend.block(x.columns / 2),
            [
                .pointer(try floats(of: x)), .pointer(positions!.device), .pointer(rotary!.cosines),
                .pointer(rotary!.sines), .int(heads), .int(table.halfWidth),
            ])
    }

    /// Returns a recipe for gelu(gate) · up. The product is computed when its use is known (see `CUDAMatrix`).
    package func geglu(gate: CUDAMatrix, up: CUDAMatrix) throws -> CUDAMatrix {
        CUDAMatrix(rows: gate.rows, columns: gate.columns, recipe: .geglu(gate: gate, up: up))
    }

    /// Adds `y` to `x` in place. If `y` is a norm that has not been computed as float32, one kernel computes the norm
    /// and adds it, without storing it.
    package func add(_ y: CUDAMatrix, to x: CUDAMatrix) throws {
        let target = try floats(of: x)
        if y.floats == nil,
            case .norm(let source, let version, let weight, let epsilon) = y.recipe
        {
            precondition(source.version == version, "a norm's input changed before it was computed")
            x.change()
            try device.launch(
                "add_rms_norm", grid: (x.rows, 1), block: CUDABackend.block(x.columns),
                [
                    .pointer(try floats(of: source)), .pointer(weight), .pointer(target),
                    .int(x.columns), .float(epsilon),
                ])
            return
        }
        let source = try floats(of: y)
        x.change()
        let count = x.rows * x.columns
        try device.launch(
            "add", grid: (min((count + 255) / 256, 8 * device.processorCount), 1), block: 256,
            [.pointer(source), .pointer(target), .long(count)])
    }

    // MARK: Attention

    /// Number of rows of a tile in the kernel `attention` (see kernels.cu). A row is a query of one head.
    private static let tileRows = 32
    /// Returns the bytes of dynamic shared memory that the kernel `attention` needs for heads of `width` elements.
    private static func sharedBytes(width: Int) -> Int {
        let stride = (width + 31) / 32 * 32 + 16
        return 4 * (2 * tileRows * stride + tileRows * 36)
    }

    /// Returns causal attention within each document, (rows, heads · headWidth), with the window and soft-cap of `p`.
    package func attention(
        queries: CUDAMatrix, keys: CUDAMatrix, values: CUDAMatrix, in batch: PackedBatch,
        _ p: AttentionParameters
    ) throws -> CUDAMatrix {
        let group = p.heads / p.keyValueHeads
        guard p.headWidth <= 256, p.headWidth % 4 == 0, group <= CUDABackend.tileRows else {
            throw CUDAError.unsupported(
                "head_dim is \(p.headWidth) with \(group) query heads per key head; the CUDA kernels support a head_dim that is a multiple of 4 up to 256, and up to \(CUDABackend.tileRows) query heads per key head"
            )
        }
        if pieces?.starts != batch.starts || pieces?.group != group {
            let list = CUDABackend.pieces(batch, step: CUDABackend.tileRows / group)
            pieces = (batch.starts, list.count / 3, group, try upload(list))
        }
        let out = try newMatrix(queries.rows, p.heads * p.headWidth)
        try device.launch(
            p.headWidth == 256 ? "attention_256" : "attention",
            grid: (pieces!.count, p.keyValueHeads), block: 256,
            shared: CUDABackend.sharedBytes(width: p.headWidth),
            [
                .pointer(try floats(of: queries)), .pointer(try floats(of: keys)),
                .pointer(try floats(of: values)), .pointer(out.floats), .pointer(pieces!.device),
                .int(p.keyValueHeads), .int(group), .int(p.headWidth), .float(p.scale),
                .float(p.softCap ?? 0), .int(p.window ?? 0),
            ])
        return out
    }

    /// Returns the pieces of work for the kernel `attention`, those with the most keys first. A piece is three
    /// numbers: the row of its first query, its number of queries, and the first row of its document.
    private static func pieces(_ batch: PackedBatch, step: Int) -> [Int32] {
        var list: [(first: Int, count: Int, start: Int)] = []
        for document in 0..<batch.documentCount {
            let rows = batch.rows(of: document)
            for first in stride(from: rows.lowerBound, to: rows.upperBound, by: step) {
                list.append((first, min(step, rows.upperBound - first), rows.lowerBound))
            }
        }
        list.sort { ($1.first - $1.start, $0.first) < ($0.first - $0.start, $1.first) }
        return list.flatMap { [Int32($0.first), Int32($0.count), Int32($0.start)] }
    }

    /// Returns the lowest row with a NaN or infinity; nil if all elements are finite. The sum of 0 · x over a row is
    /// 0 if the row is finite, otherwise NaN.
    package func firstNonFiniteRow(of x: CUDAMatrix) throws -> Deferred<Int?> {
        let result = try device.buffer(bytes: 4)
        try device.fill(result, 0x7F, bytes: 4)
        try device.launch(
            "first_non_finite_row", grid: (x.rows, 1), block: CUDABackend.block(x.columns),
            [.pointer(try floats(of: x)), .int(x.columns), .pointer(result)])
        let fetched = try fetch(result, Int32.self, count: 1)
        return Deferred { [rows = x.rows] in  // does not capture x and so does not keep its memory
            let row = Int(try fetched.value()[0])
            return row < rows ? row : nil
        }
    }

    /// Queues a copy of `count` elements of `buffer` to the host. `value()` of the result waits for the copy.
    func fetch<Element: BitwiseCopyable>(
        _ buffer: DeviceBuffer, _: Element.Type, count: Int
    ) throws -> Deferred<[Element]> {
        let bytes = count * MemoryLayout<Element>.stride
        let pinned = try device.pinned(bytes: bytes)
        try device.copy(buffer, to: pinned.pointer, bytes: bytes, on: device.compute)
        let event = try device.event(on: device.compute)
        return Deferred {
            try event.synchronize()
            return withExtendedLifetime((pinned, buffer)) {
                Array(
                    UnsafeRawBufferPointer(start: pinned.pointer, count: bytes)
                        .bindMemory(to: Element.self))
            }
        }
    }
}
