// The `metadata` member of an activations file: a pickled dictionary, written without Python.
// Pickle protocol 3 opcodes: CPython Lib/pickletools.py. The object graph is what NumPy 1.26 pickles for
// `np.savez(…, metadata={…})`; NumPy 2 reads it without a warning.

/// What an activations file says about itself.
public struct FeatureMetadata: Equatable, Sendable {
    /// The author, as in the corpus.
    public var author: String
    /// Documents this author has.
    public var documentCount: Int
    /// The layer tapped.
    public var layer: Int
    /// Tokens of each row, `<bos>` not counted; 0 for rows beyond `documentCount`.
    public var tokensPerDocument: [Int32]
    /// The SAE within its repository, `layer_5/width_16k/average_l0_51`.
    public var saeName: String

    /// A description of one activations file.
    public init(
        author: String, documentCount: Int, layer: Int, tokensPerDocument: [Int32], saeName: String
    ) {
        self.author = author
        self.documentCount = documentCount
        self.layer = layer
        self.tokensPerDocument = tokensPerDocument
        self.saeName = saeName
    }

    /// Header of the array that holds the pickle: a 0-d array of objects.
    public static let header = NPYHeader(descr: "|O", shape: [])

    /// The array's data: the pickle.
    public var pickle: [UInt8] {
        var p = Pickler()
        p.protocolHeader()
        // The outer array: _reconstruct(ndarray, (0,), b"b"), then its state.
        let reconstruct = p.global("numpy.core.multiarray", "_reconstruct")
        let ndarray = p.global("numpy", "ndarray")
        p.integer(0)
        p.memoizedTuple1()
        let byteB = p.bytes([UInt8(ascii: "b")])
        p.memoizedTuple3()
        p.memoizedReduce()
        p.mark()
        p.integer(1)
        p.emptyTuple()
        let dtype = p.global("numpy", "dtype")
        p.dtype("O8", byteOrder: "|", flags: 63)
        p.bool(false)
        p.emptyList()
        p.emptyDictionary()
        p.mark()
        p.string("author")
        p.string(author)
        p.string("docs_count")
        p.integer(documentCount)
        p.string("layer")
        p.integer(layer)
        p.string("tokens_per_doc")
        p.get(reconstruct)
        p.get(ndarray)
        p.integer(0)
        p.memoizedTuple1()
        p.get(byteB)
        p.memoizedTuple3()
        p.memoizedReduce()
        p.mark()
        p.integer(1)
        p.integer(tokensPerDocument.count)
        p.memoizedTuple1()
        p.get(dtype)
        p.dtype("i4", byteOrder: "<", flags: 0)
        p.bool(false)
        p.bytes(tokensPerDocument.flatMap { withUnsafeBytes(of: $0.littleEndian, Array.init) })
        p.memoizedTuple()
        p.build()
        p.string("sae_name")
        p.string(saeName)
        p.setItems()
        p.append()
        p.memoizedTuple()
        p.build()
        p.stop()
        return p.bytes
    }
}

/// Emits pickle opcodes, memoising objects in the order in which CPython's pickler does.
private struct Pickler {
    private(set) var bytes: [UInt8] = []
    private var memoCount = 0

    private mutating func op(_ code: Unicode.Scalar) { bytes.append(UInt8(ascii: code)) }
    private mutating func op(_ code: UInt8) { bytes.append(code) }

    private mutating func little32(_ value: Int) {
        withUnsafeBytes(of: UInt32(truncatingIfNeeded: value).littleEndian) { bytes += $0 }
    }

    @discardableResult
    private mutating func memoize() -> Int {
        if memoCount < 256 {
            op("q")
            bytes.append(UInt8(memoCount))
        } else {
            op("r")
            little32(memoCount)
        }
        memoCount += 1
        return memoCount - 1
    }

    mutating func protocolHeader() { bytes += [0x80, 3] }
    mutating func mark() { op("(") }
    mutating func emptyTuple() { op(")") }
    mutating func bool(_ value: Bool) { op(value ? 0x88 : 0x89) }
    mutating func none() { op("N") }
    mutating func build() { op("b") }
    mutating func append() { op("a") }
    mutating func setItems() { op("u") }
    mutating func stop() { op(".") }

    mutating func get(_ slot: Int) {
        op("h")
        bytes.append(UInt8(slot))
    }

    @discardableResult
    mutating func global(_ module: String, _ name: String) -> Int {
        op("c")
        bytes += Array("\(module)\n\(name)\n".utf8)
        return memoize()
    }

    mutating func integer(_ value: Int) {
        switch value {
        case 0...0xFF:
            op("K")
            bytes.append(UInt8(value))
        case 0x100...0xFFFF:
            op("M")
            bytes += [UInt8(value & 0xFF), UInt8(value >> 8)]
        case Int(Int32.min)...Int(Int32.max):
            op("J")
            little32(value)
        default:
            bytes += [0x8A, 8]
            withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
        }
    }

    mutating func string(_ value: String) {
        op("X")
        little32(value.utf8.count)
        bytes += Array(value.utf8)
        memoize()
    }

    @discardableResult
    mutating func bytes(_ value: [UInt8]) -> Int {
        if value.count < 256 {
            op("C")
            bytes.append(UInt8(value.count))
        } else {
            op("B")
            little32(value.count)
        }
        bytes += value
        return memoize()
    }

    mutating func memoizedTuple1() {
        op(0x85)
        memoize()
    }

    mutating func memoizedTuple3() {
        op(0x87)
        memoize()
    }

    mutating func memoizedTuple() {
        op("t")
        memoize()
    }

    mutating func memoizedReduce() {
        op("R")
        memoize()
    }

    mutating func emptyList() {
        op("]")
        memoize()
    }

    mutating func emptyDictionary() {
        op("}")
        memoize()
    }

    /// `dtype(code, False, True)` and its state; the type object must be on the stack.
    mutating func dtype(_ code: String, byteOrder: String, flags: Int) {
        string(code)
        bool(false)
        bool(true)
        memoizedTuple3()
        memoizedReduce()
        mark()
        integer(3)
        string(byteOrder)
        none()
        none()
        none()
        integer(-1)
        integer(-1)
        integer(flags)
        memoizedTuple()
        build()
    }
}
