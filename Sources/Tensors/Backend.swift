// The protocol that a device implements. The model and the SAEs are written once, on top of this protocol.

import ArrayFiles

/// The documents of a batch, end to end and without padding. Attention stays within a document.
public struct PackedBatch: Sendable {
    /// The tokens of all documents, one document after the other.
    public let tokens: [Int32]
    /// Index in `tokens` of the first token of each document, followed by the number of tokens: `documentCount` + 1 elements.
    public let starts: [Int]

    /// Packs `documents`. None of them may be empty.
    public init(_ documents: [[Int32]]) {
        precondition(documents.allSatisfy { !$0.isEmpty }, "a document has at least <bos>")
        tokens = Array(documents.joined())
        starts = documents.reduce(into: [0]) { $0.append($0.last! + $1.count) }
    }

    /// The number of documents.
    public var documentCount: Int { starts.count - 1 }

    /// Returns the rows (indices in `tokens`) of document `index`.
    public func rows(of index: Int) -> Range<Int> { starts[index]..<starts[index + 1] }

    /// Returns the index of the document that `row` belongs to.
    public func document(ofRow row: Int) -> Int { starts.lastIndex { $0 <= row }! }

    /// The position of each row in its document; 0 for `<bos>`.
    public var positions: [Int32] {
        (0..<documentCount).flatMap { (0..<Int32(rows(of: $0).count)) }
    }

    /// For each row, the next token of its document; -1 for the last row of a document.
    public var nextTokens: [Int32] {
        (0..<documentCount).flatMap { tokens[rows(of: $0)].dropFirst() + [-1] }
    }
}

/// Sizes and constants of one layer's grouped-query attention.
public struct AttentionParameters: Sendable {
    /// Number of query heads (`n_heads`).
    public var heads: Int
    /// Number of key and value heads (`n_key_value_heads`). Query head h reads head h / (heads / keyValueHeads).
    public var keyValueHeads: Int
    /// Width of one head (`d_head`).
    public var headWidth: Int
    /// Factor by which scores are multiplied before the soft-cap.
    public var scale: Float
    /// The soft-cap: scores become cap · tanh(score / cap). Nil: no soft-cap.
    public var softCap: Float?
    /// Number of keys that a query sees, its own position included. Nil: all keys of the document up to its own position.
    public var window: Int?

    /// Stores the sizes and constants of one layer.
    public init(
        heads: Int, keyValueHeads: Int, headWidth: Int, scale: Float, softCap: Float?, window: Int?
    ) {
        self.heads = heads
        self.keyValueHeads = keyValueHeads
        self.headWidth = headWidth
        self.scale = scale
        self.softCap = softCap
        self.window = window
    }
}

/// Cosines and sines of the angles of the rotary embedding.
public struct RotaryTable: Sendable {
    /// Half of the head width. Elements i and i + halfWidth of a head are rotated as a pair.
    public let halfWidth: Int
    /// Cosines, row-major (positions, halfWidth).
    public let cosines: [Float]
    /// Sines, row-major (positions, halfWidth).
    public let sines: [Float]

    /// Stores the two tables. Both must have the same size, a multiple of `halfWidth`.
    public init(halfWidth: Int, cosines: [Float], sines: [Float]) {
        precondition(cosines.count == sines.count && cosines.count % halfWidth == 0)
        self.halfWidth = halfWidth
        self.cosines = cosines
        self.sines = sines
    }
}

/// The order of the dimensions of a stored weight matrix.
public enum WeightLayout: Sendable {
    /// (outputs, inputs) as in a checkpoint: y = x · Wᵀ.
    case outputsByInputs
    /// (inputs, outputs) as in an SAE file: y = x · W.
    case inputsByOutputs
}

/// Statistics of the model's next-token distribution at each row of a batch, in nats.
public struct TokenPredictions: Sendable {
    /// -log p(next token); 0 for the last row of a document.
    public var crossEntropy: [Float]
    /// Entropy of the predicted distribution.
    public var entropy: [Float]
    /// The first row with a logit that is NaN or infinite; nil if all logits are finite.
    public var firstNonFiniteRow: Int?

    /// Stores the statistics of a batch.
    package init(crossEntropy: [Float], entropy: [Float], firstNonFiniteRow: Int? = nil) {
        self.crossEntropy = crossEntropy
        self.entropy = entropy
        self.firstNonFiniteRow = firstNonFiniteRow
    }
}

/// The precision of matrix products. All other operations are in float32 in both cases.
public enum Precision: String, Codable, Sendable, CaseIterable {
    /// Operands are float32 numbers (on CUDA with 22 bits of mantissa); sums are in float32.
    case float32
    /// Operands are rounded to bfloat16; sums are in float32.
    case bfloat16
}

/// The parts of a forward pass whose time is measured.
public enum BatchPart: String, CaseIterable, Sendable {
    case embedding
    case attention
    case mlp
    /// The unembedding, and the statistics of the logits.
    case predictions
    /// The SAE encoders, and the search for non-finite activations before them.
    case saes
}

/// A result that the device may still be computing.
public struct Deferred<Value> {
    private let get: () throws -> Value

    /// Wraps a result that is already known.
    public init(_ value: Value) { get = { value } }

    /// Wraps a result that `get` waits for and returns.
    public init(_ get: @escaping () throws -> Value) { self.get = get }

    /// Waits for the result and returns it. Call it once. Throws if the device has failed.
    public func value() throws -> Value { try get() }
}

/// A result needed more memory than was reserved for it. The reservation has been enlarged; compute the batch again.
public struct ResultOverflow: Error {
    package init() {}
}

/// A device that computes on row-major matrices.
///
/// Operations may return before the device has finished them. Products are cut into pieces whose shapes depend on the
/// operands only, so results do not depend on the number of threads.
public protocol Backend: AnyObject {
    /// Activations, (rows, columns), on the device.
    associatedtype Matrix
    /// A weight matrix. It can be used in products after `load`.
    associatedtype Weights
    /// A weight vector. It can be used at once.
    associatedtype Vector

    /// The device and the kernels in use, for logs and `run.json`.
    var kernels: String { get }
    /// How products are computed, for logs and `run.json`. Valid after `load`.
    var products: String { get }
    /// Number of batches that may be queued before the results of the first are collected. 1 if operations finish before they
    /// return.
    var batchesInFlight: Int { get }
    /// Seconds during which the device computed batches (`busy`), and seconds from the start of the first batch to the end of
    /// the last (`span`). Nil on the CPU.
    var deviceSeconds: (busy: Double, span: Double)? { get }

    /// Seconds that each part has taken in all batches so far. Empty if operations return before they are finished.
    var partSeconds: [BatchPart: Double] { get }
    /// Calls `body`, whose operations belong to `part`, and adds its time to `partSeconds` where the backend measures it.
    func measure<R>(_ part: BatchPart, _ body: () throws -> R) rethrows -> R

    /// Bytes in use on the device, by all processes. Nil on the CPU.
    var deviceMemory: Int? { get }

    /// Registers `tensor` (two dimensions) as a weight matrix for products and, with `isTable`, for `embed`.
    func weights(_ tensor: StoredTensor, layout: WeightLayout, isTable: Bool) -> Weights
    /// Returns `tensor` (one dimension) as a float32 vector, with `offset` added to each element.
    func vector(_ tensor: StoredTensor, adding offset: Float) throws -> Vector
    /// Loads all weights that were registered since the last call. First checks that the device has enough memory for the
    /// weights and for batches of `rows` rows that take `bytesPerRow` bytes per row and go through `encoders` encoders.
    func load(rows: Int, bytesPerRow: Int, encoders: Int) throws
    /// Abandons the batch that `embed` began. Call it before any memory of the batch is released or reused.
    func abandonBatch()
    /// Returns a matrix with `elements`, which are in row-major order.
    func matrix(rows: Int, columns: Int, _ elements: [Float]) throws -> Matrix
    /// Returns the elements of `rows` of `x`, in row-major order.
    func elements(of x: Matrix, rows: Range<Int>) throws -> [Float]

    /// Returns the rows of `table` for `tokens`, multiplied by `scale`: (tokens, width). Begins a batch.
    func embed(_ tokens: [Int32], table: Weights, scale: Float) throws -> Matrix
    /// Returns x · rsqrt(mean(x²) + epsilon) · weight, row by row. Gemma's 1 has already been added to `weight`.
    func rmsNorm(_ x: Matrix, _ weight: Vector, epsilon: Float) throws -> Matrix
    /// Returns the product of `x` and the weights: (rows, outputs).
    func matmul(_ x: Matrix, _ weights: Weights) throws -> Matrix
    /// Applies the rotary embedding to each head of `x` in place. `positions` has the position of each row.
    func rotate(_ x: Matrix, by table: RotaryTable, at positions: [Int32]) throws
    /// Returns causal attention within each document: the weighted values of all heads, (rows, heads · headWidth).
    func attention(
        queries: Matrix, keys: Matrix, values: Matrix, in batch: PackedBatch,
        _ parameters: AttentionParameters
    ) throws -> Matrix
    /// Returns gelu_tanh(gate) · up, element by element.
    func geglu(gate: Matrix, up: Matrix) throws -> Matrix
    /// Adds `y` to `x` in place.
    func add(_ y: Matrix, to x: Matrix) throws
    /// Returns statistics of the logits cap · tanh(x · Wᵀ / cap). The vocabulary is processed in chunks.
    func predictions(
        _ x: Matrix, unembedding: Weights, softCap: Float?, nextTokens: [Int32]
    ) throws -> Deferred<TokenPredictions>
    /// Returns the features of a JumpReLU encoder that fire: f = pre where pre > threshold and f > `floor`, with
    /// pre = x · W + bias. Nil if a pre-activation is NaN or infinite. `value()` of the result may throw `ResultOverflow`.
    func jumpReLU(
        _ x: Matrix, encoder: Weights, bias: Vector, threshold: Vector, above floor: Float
    ) throws -> Deferred<FiringFeatures?>
    /// Returns the first row with an element that is NaN or infinite; nil if all elements are finite.
    func firstNonFiniteRow(of x: Matrix) throws -> Deferred<Int?>
}
