// What a device must be able to do. The model and the SAEs are written once, over this protocol.

import ArrayFiles

/// Documents laid end to end: no token is padding, and attention does not cross a document's edge.
public struct PackedBatch: Sendable {
    /// The documents' tokens, one document after the other.
    public let tokens: [Int32]
    /// Where each document begins in `tokens`, and after the last where it ends: one more than documents.
    public let starts: [Int]

    /// Packs `documents`, none of them empty.
    public init(_ documents: [[Int32]]) {
        precondition(documents.allSatisfy { !$0.isEmpty }, "a document has at least <bos>")
        tokens = Array(documents.joined())
        starts = documents.reduce(into: [0]) { $0.append($0.last! + $1.count) }
    }

    /// How many documents there are.
    public var documentCount: Int { starts.count - 1 }

    /// The rows of document `index`.
    public func rows(of index: Int) -> Range<Int> { starts[index]..<starts[index + 1] }

    /// The document that `row` belongs to.
    public func document(ofRow row: Int) -> Int { starts.lastIndex { $0 <= row }! }

    /// Each row's position within its document, 0 for `<bos>`.
    public var positions: [Int32] {
        (0..<documentCount).flatMap { (0..<Int32(rows(of: $0).count)) }
    }

    /// The token after each row's within its document; -1 after the last.
    public var nextTokens: [Int32] {
        (0..<documentCount).flatMap { tokens[rows(of: $0)].dropFirst() + [-1] }
    }
}

/// Sizes and constants of one layer's grouped-query attention.
public struct AttentionParameters: Sendable {
    /// Query heads (`n_heads`).
    public var heads: Int
    /// Key and value heads (`n_key_value_heads`); query head h reads head h / (heads / keyValueHeads).
    public var keyValueHeads: Int
    /// Width of a head (`d_head`).
    public var headWidth: Int
    /// What scores are multiplied by before the cap.
    public var scale: Float
    /// Scores become cap · tanh(score / cap); nil for none.
    public var softCap: Float?
    /// How many keys a query sees, itself included; nil for all before it.
    public var window: Int?

    /// The constants of one layer.
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

/// Cosines and sines of the rotary embedding's angles.
public struct RotaryTable: Sendable {
    /// Half a head's width: element i turns with element i + halfWidth.
    public let halfWidth: Int
    /// Cosines, (position, halfWidth).
    public let cosines: [Float]
    /// Sines, (position, halfWidth).
    public let sines: [Float]

    /// Takes tables of (positions, halfWidth).
    public init(halfWidth: Int, cosines: [Float], sines: [Float]) {
        precondition(cosines.count == sines.count && cosines.count % halfWidth == 0)
        self.halfWidth = halfWidth
        self.cosines = cosines
        self.sines = sines
    }
}

/// How a stored matrix is laid out with regard to the product it serves.
public enum WeightLayout: Sendable {
    /// (outputs, inputs) as in a checkpoint: y = x · Wᵀ.
    case outputsByInputs
    /// (inputs, outputs) as in an SAE file: y = x · W.
    case inputsByOutputs
}

/// What the model predicts at each row of a batch, in nats.
public struct TokenPredictions: Sendable {
    /// -log p(next token), 0 where the document ends.
    public var crossEntropy: [Float]
    /// Entropy of the predicted distribution.
    public var entropy: [Float]
    /// The first row with a logit that is NaN or infinite.
    public var firstNonFiniteRow: Int?
}

/// How faithful products are. What is not a product is in float32 either way.
public enum Precision: String, Codable, Sendable, CaseIterable {
    /// To float32.
    case float32
    /// To operands rounded to bfloat16; sums are in float32.
    case bfloat16
}

/// Where the time of a batch goes.
public enum BatchPart: String, CaseIterable, Sendable {
    case embedding
    case attention
    case mlp
    /// Unembedding, and what is made of the logits.
    case predictions
    /// Encoders, and the search for NaN before them.
    case saes
}

/// Why the processor cannot be used.
public enum BackendError: Error, Equatable, CustomStringConvertible {
    /// The system does not give the memory that products work in.
    case noMemory(bytes: Int, threads: Int)

    /// What is missing and what to do.
    public var description: String {
        switch self {
        case .noMemory(let bytes, let threads):
            "cannot reserve \(bytes >> 20) MiB of memory for matrix products on \(threads) threads; raise the limit (ulimit -v, or the job's memory) or give fewer --threads"
        }
    }
}

/// A result that the device may still be at work on.
public struct Deferred<Value> {
    private let get: () throws -> Value

    /// A result that is there.
    public init(_ value: Value) { get = { value } }

    /// A result that `get` waits for.
    public init(_ get: @escaping () throws -> Value) { self.get = get }

    /// Waits for the result; to be called once. Throws where the device failed meanwhile.
    public func value() throws -> Value { try get() }
}

/// A result took more room than was set apart for it. The room has grown; the batch is to be computed again.
public struct ResultOverflow: Error {}

/// A device that computes on row-major matrices.
///
/// Operations return when they have been asked of the device. Products are cut into pieces whose shapes depend on the
/// operands alone, so that results do not depend on how many threads share the work.
public protocol Backend: AnyObject {
    /// Activations, (rows, columns), on the device.
    associatedtype Matrix
    /// A weight matrix, ready for products once `load` was called.
    associatedtype Weights
    /// A weight vector, ready for use.
    associatedtype Vector

    /// The device and kernels in use, for logs and `run.json`.
    var kernels: String { get }
    /// How products are made, for logs and `run.json`; known once weights are loaded.
    var products: String { get }
    /// How many batches may be asked for before the first one's results are: 1 where operations return when done.
    var batchesInFlight: Int { get }
    /// Seconds during which the device was computing batches, and seconds from the first one's beginning to the last
    /// one's end; nil where there is no device beside the processor.
    var deviceSeconds: (busy: Double, span: Double)? { get }

    /// Seconds that each part of batches has taken so far; empty where operations return before they are done.
    var partSeconds: [BatchPart: Double] { get }
    /// Does `body`, which asks for operations of `part`.
    func measure<R>(_ part: BatchPart, _ body: () throws -> R) rethrows -> R

    /// Bytes in use on the device, by whomever; nil where there is no device beside the processor.
    var deviceMemory: Int? { get }

    /// Makes `tensor` (two dimensions) available as a factor, and with `isTable` for `embed`.
    func weights(_ tensor: StoredTensor, layout: WeightLayout, isTable: Bool) -> Weights
    /// Makes `tensor` (one dimension) available, `offset` added to each element.
    func vector(_ tensor: StoredTensor, adding offset: Float) throws -> Vector
    /// Makes all weights resident that were asked for since, after a check that there is room for them and for
    /// batches of `rows` rows that take `bytesPerRow` bytes each and go through `encoders` encoders.
    func load(rows: Int, bytesPerRow: Int, encoders: Int) throws
    /// The batch that was begun by `embed` will not be finished. Called before anything of it is let go.
    func abandonBatch()
    /// A matrix of `elements`.
    func matrix(rows: Int, columns: Int, _ elements: [Float]) throws -> Matrix
    /// Elements of the rows of `x` in `rows`, in row-major order.
    func elements(of x: Matrix, rows: Range<Int>) throws -> [Float]

    /// Rows of `table` for `tokens`, times `scale`: (tokens, width).
    func embed(_ tokens: [Int32], table: Weights, scale: Float) throws -> Matrix
    /// x · rsqrt(mean(x²) + epsilon) · weight, row by row. `weight` already has Gemma's 1 added.
    func rmsNorm(_ x: Matrix, _ weight: Vector, epsilon: Float) throws -> Matrix
    /// `x` times the weights: (rows, outputs).
    func matmul(_ x: Matrix, _ weights: Weights) throws -> Matrix
    /// Turns each head of `x` by its row's position, in place.
    func rotate(_ x: Matrix, by table: RotaryTable, at positions: [Int32]) throws
    /// Causal attention within each document: heads' weighted values, (rows, heads · headWidth).
    func attention(
        queries: Matrix, keys: Matrix, values: Matrix, in batch: PackedBatch,
        _ parameters: AttentionParameters
    ) throws -> Matrix
    /// gelu_tanh(gate) · up, element by element.
    func geglu(gate: Matrix, up: Matrix) throws -> Matrix
    /// Adds `y` to `x` in place.
    func add(_ y: Matrix, to x: Matrix) throws
    /// Logits cap · tanh(x · Wᵀ / cap) reduced to what is predicted, the vocabulary taken in chunks.
    func predictions(
        _ x: Matrix, unembedding: Weights, softCap: Float?, nextTokens: [Int32]
    ) throws -> Deferred<TokenPredictions>
    /// JumpReLU: features f = pre where pre > threshold and f > `floor`, with pre = x · W + bias. Nil where
    /// a pre-activation is NaN or infinite. The result may throw `ResultOverflow`.
    func jumpReLU(
        _ x: Matrix, encoder: Weights, bias: Vector, threshold: Vector, above floor: Float
    ) throws -> Deferred<FiringFeatures?>
    /// The first row with an element that is NaN or infinite.
    func firstNonFiniteRow(of x: Matrix) throws -> Deferred<Int?>
}
