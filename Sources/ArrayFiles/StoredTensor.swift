// A tensor as it is stored: in a memory-mapped file, or in memory if it was unpacked from a compressed file.

import Files

/// The element types of stored weights. All are little-endian.
public enum ElementType: String, Sendable, Codable {
    /// IEEE binary32.
    case float32
    /// The upper 16 bits of an IEEE binary32.
    case bfloat16
    /// IEEE binary16.
    case float16

    /// The number of bytes of an element.
    public var size: Int { self == .float32 ? 4 : 2 }
}

/// A read-only view of the bytes of a tensor, at any alignment. The view keeps the bytes valid.
public struct StoredTensor: @unchecked Sendable {
    /// The name of the tensor in its file.
    public let name: String
    /// The path of the file, for messages.
    public let path: String
    /// How the elements are encoded.
    public let elementType: ElementType
    /// Sizes of the dimensions, outermost first.
    public let shape: [Int]
    /// Whether the first index varies fastest (column-major) instead of the last.
    public let isFortranOrder: Bool
    /// The encoded elements: the product of `shape` times `elementType.size` bytes, at any alignment.
    public let bytes: UnsafeRawBufferPointer
    /// The object that keeps `bytes` valid.
    let owner: AnyObject

    /// Makes a view of `bytes`, which `owner` keeps valid. The size of `bytes` must match `shape` and `elementType`.
    public init(
        name: String, path: String, elementType: ElementType, shape: [Int],
        isFortranOrder: Bool = false, bytes: UnsafeRawBufferPointer, owner: AnyObject
    ) {
        precondition(bytes.count == shape.reduce(elementType.size, *))
        self.name = name
        self.path = path
        self.elementType = elementType
        self.shape = shape
        self.isFortranOrder = isFortranOrder
        self.bytes = bytes
        self.owner = owner
    }

    /// The number of elements.
    public var count: Int { bytes.count / elementType.size }

    /// Converts `count` elements to float32 and writes them to `out`. The first is element `start` in storage order.
    public func convert(from start: Int, count: Int, to out: UnsafeMutablePointer<Float>) {
        guard count > 0 else { return }
        let source = bytes.baseAddress! + start * elementType.size
        switch elementType {
        case .float32:
            UnsafeMutableRawPointer(out).copyMemory(from: source, byteCount: count * 4)
        case .bfloat16:
            // Loads eight elements at once, because unaligned loads of single elements take six times as long.
            let lanes = count / 8 * 8
            for i in stride(from: 0, to: lanes, by: 8) {
                let half = (source + 2 * i).loadUnaligned(as: SIMD8<UInt16>.self)
                let whole = SIMD8<UInt32>(truncatingIfNeeded: half) &<< 16
                UnsafeMutableRawPointer(out + i).storeBytes(of: whole, as: SIMD8<UInt32>.self)
            }
            for i in lanes..<count {
                let bits = UInt32((source + 2 * i).loadUnaligned(as: UInt16.self))
                out[i] = Float(bitPattern: bits << 16)
            }
        case .float16:
            for i in 0..<count {
                out[i] = Float((source + 2 * i).loadUnaligned(as: Float16.self))
            }
        }
    }

    /// Returns all elements as float32, in storage order.
    public func floats() -> [Float] {
        [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            if count > 0 { convert(from: 0, count: count, to: buffer.baseAddress!) }
            initialized = count
        }
    }
}

/// Returns the size in bytes of an array. Nil if a dimension is negative or the size overflows.
func byteCount(shape: [Int], elementSize: Int) -> Int? {
    var product = elementSize
    for dimension in shape {
        guard dimension >= 0 else { return nil }
        let (next, overflow) = product.multipliedReportingOverflow(by: dimension)
        guard !overflow else { return nil }
        product = next
    }
    return product
}
