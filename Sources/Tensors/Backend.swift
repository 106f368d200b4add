// The protocol `Backend`: the operations on matrices that each device implements. The model and the SAEs use only
// these operations, so the same code runs on every device.

import ArrayFiles

/// The documents of a batch, packed end to end without padding. A query attends only to keys of its own document.
package struct PackedBatch: Sendable {
    /// The tokens of all documents, one document after the other.
    package let tokens: [Int32]
    /// The index in `tokens` of each document's first token, and at the end the number of tokens.
    package let starts: [Int]

    /// Packs `documents`. Each document must have at least one token.
    package init(_ documents: [[Int32]]) {
        precondition(documents.allSatisfy { !$0.isEmpty }, "a document has at least <bos>")
        tokens = Array(documents.joined())
        starts = documents.reduce(into: [0]) { $0.append($0.last! + $1.count) }
    }

    /// The number of documents.
    package var documentCount: Int { starts.count - 1 }

    /// Returns the rows (indices in `tokens`) of document `index`.
    package func rows(of index: Int) -> Range<Int> { starts[index]..<starts[index + 1] }

    /// Returns the index of the document that `row` belongs to.
    package func document(ofRow row: Int) -> Int { starts.lastIndex { $0 <= row }! }

    /// The position of each row in its document; 0 for `<bos>`.
    package var positions: [Int32] {
        (0..<documentCount).flatMap { (0..<Int32(rows(of: $0).count)) }
    }

    /// For each row, the next token of its document; -1 for the last row of a document.
    package var nextTokens: [Int32] {
        (0..<documentCount).flatMap { tokens[rows(of: $0)].dropFirst() + [-1] }
    }
}

/// Sizes and constants of one layer's grouped-query attention.
package struct AttentionParameters: Sendable {
    /// Number of query heads (`n_heads`).
    package var heads: Int
    /// Number of key-value heads (`n_key_value_heads`). Each serves heads / keyValueHeads successive query heads.
    package var keyValueHeads: Int
    /// Width of one head (`d_head`).
    package var headWidth: Int
    /// Factor by which scores are multiplied before the soft-cap.
    package var scale: Float
    /// The soft-cap: scores become cap · tanh(score / cap). Nil: no soft-cap.
    package var softCap: Float?
    /// Size of the sliding window: a query sees this number of keys, its own position and those just before it. Nil:
    /// the query sees all positions of its document up to its own.
    package var window: Int?

    /// Stores the sizes and constants of one layer.
    package init(
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
package struct RotaryTable: Sendable {
    /// Half of the head width. Elements i and i + halfWidth of a head are rotated as a pair.
    package let halfWidth: Int
    /// Cosines, row-major (positions, halfWidth).
    package let cosines: [Float]
    /// Sines, row-major (positions, halfWidth).
    package let sines: [Float]

    /// Stores the two tables. Both tables must have the same size, which must be a multiple of `halfWidth`.
    package init(halfWidth: Int, cosines: [Float], sines: [Float]) {
        precondition(cosines.count == sines.count && cosines.count % halfWidth == 0)
        self.halfWidth = halfWidth
        self.cosines = cosines
        self.sines = sines
    }
}

/// The order of the dimensions of a stored weight matrix.
package enum WeightLayout: Sendable {
    /// (outputs, inputs) as in a checkpoint: y = x · Wᵀ.
    case outputsByInputs
    /// (inputs, outputs) as in an SAE file: y = x · W.
    case inputsByOutputs
}

/// Statistics of the model's next-token distribution at each row of a batch, in nats.
package struct TokenPredictions: Sendable {
    /// -log p(next token); 0 for the last row of a document.
    package var crossEntropy: [Float]
    /// Entropy of the predicted distribution.
    package var entropy: [Float]
    /// The first row with a logit that is NaN or infinite; nil if all logits are finite.
    package var firstNonFiniteRow: Int?

    /// Stores the statistics of a batch.
    package init(crossEntropy: [Float], entropy: [Float], firstNonFiniteRow: Int? = nil) {
        self.crossEntropy = crossEntropy
        self.entropy = entropy
        self.firstNonFiniteRow = firstNonFiniteRow
    }
}

/// The precision of the operands of matrix products. All other operations are in float32.
package enum Precision: String, Codable, Sendable, CaseIterable {
    /// Operands are float32 numbers. On CUDA they are rounded to 22 bits of mantissa. Sums are in float32.
    case float32
    /// Operands are rounded to bfloat16; sums are in float32.
    case bfloat16
}

/// The parts of a forward pass whose time is measured.
package enum BatchPart: String, CaseIterable, Sendable {
    case embedding
    case attention
    case mlp
    /// The unembedding, and the statistics of the logits.
    case predictions
    /// The search for non-finite activations, and then the SAE encoders.
    case saes
}

/// A result that the device may still be computing.
package struct Deferred<Value> {
    private let get: () throws -> Value

    /// Wraps a result that is already known.
    package init(_ value: Value) { get = { value } }

    /// Stores `get`, which waits for the result and returns it.
    package init(_ get: @escaping () throws -> Value) { self.get = get }

    /// Waits for the result and returns it. Call this function only once. Throws if the device has failed.
    package func value() throws -> Value { try get() }
}

/// Thrown if a result does not fit in the memory that the backend has reserved for it. The backend then reserves more
/// for later batches, so the caller can compute the batch again.
package struct ResultOverflow: Error {
    package init() {}
}

/// A device that computes on row-major matrices.
///
/// An operation may return before the device has finished it. The division of a product into pieces depends only on
/// the operands. So results do not depend on the number of threads.
package protocol Backend: AnyObject {
    /// Activations, (rows, columns), on the device.
    associatedtype Matrix
    /// A weight matrix. It can be used in products after `load`.
    associatedtype Weights
    /// A weight vector. It can be used before `load`.
    associatedtype Vector

    /// The device and the kernels in use, for logs and `run.json`.
    var kernels: String { get }
    /// A description of how products are computed, for logs and `run.json`. Valid after `load`.
    var products: String { get }
    /// Number of batches that the caller may queue before it collects the results of the first; 1 if each operation
    /// has finished when it returns.
    var batchesInFlight: Int { get }
    /// Times in seconds. `busy` is the time in which the device computed batches. `span` is the time from the start
    /// of the first batch to the end of the last. Nil on the CPU.
    var deviceSeconds: (busy: Double, span: Double)? { get }

    /// Seconds that each part has taken, summed over all batches. Empty on CUDA, where operations return before they
    /// have finished, so that their times are unknown.
    var partSeconds: [BatchPart: Double] { get }
    /// Calls `body`, which computes the part `part`. Adds its time to `partSeconds` if the backend measures times.
    func measure<R>(_ part: BatchPart, _ body: () throws -> R) rethrows -> R

    /// Bytes in use on the device, by all processes. Nil on the CPU.
    var deviceMemory: Int? { get }

    /// Registers `tensor`, which has two dimensions, as a weight matrix for products. With `isTable`, `embed` can
    /// also read rows of it.
    func weights(_ tensor: StoredTensor, layout: WeightLayout, isTable: Bool) -> Weights
    /// Returns `tensor` (one dimension) as a float32 vector, with `offset` added to each element.
    func vector(_ tensor: StoredTensor, adding offset: Float) throws -> Vector
    /// Loads all weight matrices that were registered since the last call. First checks that the device has enough
    /// memory for them and for a batch of `rows` rows. A row takes `bytesPerRow` bytes, and goes through `encoders`
    /// SAE encoders.
    func load(rows: Int, bytesPerRow: Int, encoders: Int) throws
    /// Abandons the batch that `embed` began, after an error. Call this function before memory of the batch is
    /// released or reused.
    func abandonBatch()
    /// Returns a matrix with `elements`, which are in row-major order.
    func matrix(rows: Int, columns: Int, _ elements: [Float]) throws -> Matrix
    /// Returns the elements of `rows` of `x`, in row-major order.
    func elements(of x: Matrix, rows: Range<Int>) throws -> [Float]

    /// Begins a batch. Returns the rows of `table` for `tokens`, multiplied by `scale`: (tokens, width).
    func embed(_ tokens: [Int32], table: Weights, scale: Float) throws -> Matrix
    /// Returns x · rsqrt(mean(x²) + epsilon) · weight, row by row. `weight` holds the whole factor, which is 1 + w in
    /// Gemma.
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
    /// Returns statistics of the logits cap · tanh(x · Wᵀ / cap), where W is `unembedding` and cap is `softCap`. The
    /// vocabulary is processed in chunks.
    func predictions(
        _ x: Matrix, unembedding: Weights, softCap: Float?, nextTokens: [Int32]
    ) throws -> Deferred<TokenPredictions>
    /// Returns the firing features whose activation is above `floor`. A feature fires if its pre-activation, x · W +
    /// bias, is above its threshold. Its activation is then the pre-activation. The result is nil if a pre-activation
    /// is NaN or infinite. `value()` of the result may throw `ResultOverflow`.
    func jumpReLU(
        _ x: Matrix, encoder: Weights, bias: Vector, threshold: Vector, above floor: Float
    ) throws -> Deferred<FiringFeatures?>
    /// Returns the first row with an element that is NaN or infinite; nil if all elements are finite.
    func firstNonFiniteRow(of x: Matrix) throws -> Deferred<Int?>
}
