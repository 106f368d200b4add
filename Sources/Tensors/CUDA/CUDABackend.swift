// The CUDA backend: products by cuBLAS on tensor cores, everything else by the kernels of CCUDA/kernels.cu. Operations
// are queued on the device and return; nothing waits for it within a batch.

import ArrayFiles
import CUDA
import Files
import Threading

/// Computes on an NVIDIA device.
public final class CUDABackend: Backend {
    /// Activations on the device.
    public typealias Matrix = CUDAMatrix
    /// A weight matrix on the device.
    public typealias Weights = CUDAWeights
    /// A vector of float32 on the device.
    public typealias Vector = DeviceBuffer

    /// The device.
    public let device: CUDADevice
    let precision: Precision
    /// The processor's threads, which copy weights.
    let threads: ThreadPool
    /// Parts of activations that products read.
    var parts: Int { precision == .float32 ? 2 : 1 }

    private var waiting: [CUDAWeights] = []
    private var loaded: (short: Int, long: Int) = (0, 0)
    /// Tables of angles, by their cosines' address: a model has one.
    private var rotary: (table: RotaryTable, cosines: DeviceBuffer, sines: DeviceBuffer)?
    /// What attention and rotation need of a batch, kept while the batch is the same.
    private var positions: (host: [Int32], device: DeviceBuffer)?
    private var pieces: (starts: [Int], count: Int, group: Int, device: DeviceBuffer)?
    /// Most rows seen, in steps: buffers of one size serve all batches.
    private var rowCapacity = 0
    /// Entries a row that results have room for; doubles when it was not enough.
    var entriesPerRow = 256
    /// Begun batches: where the current one began, and all that have been collected.
    var batchStart: CUDAEvent?
    /// What the current batch has sent, kept until the batch has been computed.
    var batchUploads: [PinnedBuffer] = []
    private var firstStart: CUDAEvent?
    private var busySeconds = 0.0
    private var spanSeconds = 0.0

    /// Bytes that logits or pre-activations may take at one time.
    static let chunkBytes = 512 << 20

    /// Not known: operations are only queued.
    public var partSeconds: [BatchPart: Double] { [:] }

    /// Does `body`.
    public func measure<R>(_ part: BatchPart, _ body: () throws -> R) rethrows -> R { try body() }

    /// Takes the first device that this process' environment lets it see. Throws `CUDAError`.
    public init(
        precision: Precision, threads: ThreadPool, environment: [String: String]
    ) throws {
        device = try CUDADevice(environment: environment)
        (self.precision, self.threads) = (precision, threads)
    }

    /// "NVIDIA H100 80GB HBM3 (9.0), driver 13.0, cudart 12.9, cuBLAS 12.9.1".
    public var kernels: String { "\(device.description), \(device.versions)" }

    /// "float32 by products of float16 parts: …".
    public var products: String {
        switch precision {
        case .bfloat16: "bfloat16: one product of rounded operands, summed in float32"
        case .float32:
            "float32 by products of float16 parts: 2 where weights have 11 significant bits or less, as bfloat16 numbers have (\(loaded.short) of \(loaded.short + loaded.long) matrices), else 3"
        }
    }

    /// One is computed, one waits so that the device never does, and one's results are taken in.
    public var batchesInFlight: Int { 3 }

    /// By the device's own clock.
    public var deviceSeconds: (busy: Double, span: Double)? { (busySeconds, spanSeconds) }

    /// What this process holds of buffers that wait to be used again counts as free.
    public var deviceMemory: Int? { (try? device.memory()).map { $0.total - $0.free } }

    /// A batch has been collected that was computed from `start` to `end`.
    func finishBatch(_ start: CUDAEvent, _ end: CUDAEvent) {
        // No result is lost for a clock that fails.
        busySeconds += (try? end.seconds(since: start)) ?? 0
        spanSeconds = (try? end.seconds(since: firstStart ?? start)) ?? spanSeconds
        if firstStart == nil { firstStart = start }
    }

    // MARK: Weights

    /// Notes that the matrix is wanted; `load` brings it.
    public func weights(
        _ tensor: StoredTensor, layout: WeightLayout, isTable: Bool = false
    ) -> CUDAWeights {
        let weights = CUDAWeights(tensor, layout: layout, isTable: isTable)
        waiting.append(weights)
        return weights
    }

    /// Copies the vector as float32.
    public func vector(_ tensor: StoredTensor, adding offset: Float) throws -> DeviceBuffer {
        try upload(tensor.floats().map { $0 + offset })
    }

    /// Checks the room, then brings the matrices that were asked for to the device.
    public func load(rows: Int, bytesPerRow: Int, encoders: Int) throws {
        for weights in waiting where precision == .float32 {
            let survey = WeightSurvey(weights.tensor, threads)
            weights.form = .float16(parts: survey.isShort ? 1 : 2, exponent: survey.exponent)
            if survey.isShort { loaded.short += 1 } else { loaded.long += 1 }
        }
        let matrices = waiting.reduce(0) { $0 + $1.bytes } + WeightUpload.stagingBytes(waiting)
        // Logits, and pre-activations.
        let widest = waiting.map(\.outputs).max() ?? 0
        let results = encoders * 8 * entriesPerRow
        let batch =
            rows * (bytesPerRow + results) + 2 * min(CUDABackend.chunkBytes, rows * widest * 4)
        let (free, total) = try device.memory()
        guard matrices + batch <= free else {
            throw CUDAError.tooSmall(
                needed: matrices + batch, free: free, total: total,
                parts:
                    "weights and encoders \(matrices >> 20), a batch of \(rows) tokens \(batch >> 20)"
            )
        }
        let upload = WeightUpload(device, threads)
        for weights in waiting { try upload.bring(weights) }
        try device.compute.synchronize()
        waiting = []
    }

    // MARK: Data

    /// Waits until the device has done what was asked of it: copies of the batch are under way from and to memory that
    /// is about to be used for something else. The next one may be a smaller one, for want of memory.
    public func abandonBatch() {
        try? device.compute.synchronize()
        (batchStart, batchUploads, rowCapacity) = (nil, [], 0)
        (positions, pieces) = (nil, nil)
    }

    /// A buffer of `rows` rows of `bytesPerRow`, with room for the largest batch.
    func rowBuffer(_ rows: Int, bytesPerRow: Int) throws -> DeviceBuffer {
        if rows > rowCapacity { rowCapacity = (rows + 255) / 256 * 256 }
        // A few rows, as tests and short batches have, need no more than they are.
        let capacity = rows * 4 < rowCapacity ? rows : rowCapacity
        return try device.buffer(bytes: capacity * bytesPerRow)
    }

    func newMatrix(_ rows: Int, _ columns: Int) throws -> CUDAMatrix {
        CUDAMatrix(
            rows: rows, columns: columns, floats: try rowBuffer(rows, bytesPerRow: columns * 4))
    }

    /// `values` on the device. Within a batch they go through pinned memory, so that nothing waits; from other memory
    /// the copy is made before the call returns.
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

    /// A matrix of `elements`.
    public func matrix(rows: Int, columns: Int, _ elements: [Float]) throws -> CUDAMatrix {
        precondition(elements.count == rows * columns)
        return CUDAMatrix(rows: rows, columns: columns, floats: try upload(elements))
    }

    /// Waits for the device and copies.
    public func elements(of x: CUDAMatrix, rows: Range<Int>) throws -> [Float] {
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

    /// `x` as float32.
    func floats(of x: CUDAMatrix) throws -> DeviceBuffer {
        if let floats = x.floats { return floats }
        let floats = try rowBuffer(x.rows, bytesPerRow: x.columns * 4)
        try cook(x, floats: floats, parts: nil)
        x.floats = floats
        return floats
    }

    /// `x` as products read it.
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

    /// Computes `x` by its recipe.
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

    /// Threads of a block that goes through a row of `width` elements.
    static func block(_ width: Int) -> Int { width >= 1024 ? 256 : width >= 256 ? 128 : 32 }

    // MARK: Elementwise

    /// Gathers rows of the table. A batch begins here.
    public func embed(_ tokens: [Int32], table: CUDAWeights, scale: Float) throws -> CUDAMatrix {
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

    /// Root-mean-square norm of each row, when it is known what for.
    public func rmsNorm(
        _ x: CUDAMatrix, _ weight: DeviceBuffer, epsilon: Float
    ) throws -> CUDAMatrix {
        _ = try floats(of: x)
        return CUDAMatrix(
            rows: x.rows, columns: x.columns,
            recipe: .norm(of: x, version: x.version, weight: weight, epsilon: epsilon))
    }

    /// Rotary embedding: element i and element i + half of each head turn together.
    public func rotate(_ x: CUDAMatrix, by table: RotaryTable, at rows: [Int32]) throws {
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

    /// GeGLU, when it is known what for.
    public func geglu(gate: CUDAMatrix, up: CUDAMatrix) throws -> CUDAMatrix {
        CUDAMatrix(rows: gate.rows, columns: gate.columns, recipe: .geglu(gate: gate, up: up))
    }

    /// x += y; a norm that nobody else has asked for is added without being stored.
    public func add(_ y: CUDAMatrix, to x: CUDAMatrix) throws {
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

    /// Rows of a tile, each a query of one head, and dynamic shared memory of the kernel; see there.
    private static let tileRows = 32
    private static func sharedBytes(width: Int) -> Int {
        let stride = (width + 31) / 32 * 32 + 16
        return 4 * (2 * tileRows * stride + tileRows * 36)
    }

    /// Causal attention with window and soft-cap, within each document.
    public func attention(
        queries: CUDAMatrix, keys: CUDAMatrix, values: CUDAMatrix, in batch: PackedBatch,
        _ p: AttentionParameters
    ) throws -> CUDAMatrix {
        let group = p.heads / p.keyValueHeads
        guard p.headWidth <= 256, p.headWidth % 4 == 0, group <= CUDABackend.tileRows else {
            throw CUDAError.unsupported(
                "head_dim is \(p.headWidth) with \(group) query heads to a key head; the CUDA kernels take a multiple of 4 up to 256, and up to \(CUDABackend.tileRows)"
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

    /// {first query's row, queries, the document's first row} of each piece, those with most keys first.
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

    /// The lowest row whose sum of 0 · x is not 0.
    public func firstNonFiniteRow(of x: CUDAMatrix) throws -> Deferred<Int?> {
        let result = try device.buffer(bytes: 4)
        try device.fill(result, 0x7F, bytes: 4)
        try device.launch(
            "first_non_finite_row", grid: (x.rows, 1), block: CUDABackend.block(x.columns),
            [.pointer(try floats(of: x)), .int(x.columns), .pointer(result)])
        let fetched = try fetch(result, Int32.self, count: 1)
        return Deferred { [rows = x.rows] in  // not x, which would stay
            let row = Int(try fetched.value()[0])
            return row < rows ? row : nil
        }
    }

    /// Copies `count` elements to the host when the device comes to it.
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
