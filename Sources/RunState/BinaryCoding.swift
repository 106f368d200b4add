// Encodes and decodes arrays of numbers as bytes in the machine's byte order (little-endian).

/// Encodes arrays of numbers end to end, as memory holds them.
struct BinaryEncoder {
    private(set) var bytes: [UInt8] = []

    mutating func append<Number: BitwiseCopyable>(_ numbers: [Number]) {
        numbers.withUnsafeBytes { bytes += $0 }
    }
}

/// Decodes arrays of numbers. The caller knows their types and counts, and that the bytes suffice.
struct BinaryDecoder {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    mutating func next<Number: BitwiseCopyable>(_: Number.Type, count: Int) -> [Number] {
        let size = count * MemoryLayout<Number>.stride
        defer { position += size }
        return [Number](unsafeUninitializedCapacity: count) { out, initialized in
            bytes[position..<position + size].withUnsafeBytes {
                UnsafeMutableRawBufferPointer(out).copyMemory(from: $0)
            }
            initialized = count
        }
    }
}
