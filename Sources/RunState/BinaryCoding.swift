// Converts arrays of numbers to bytes and back, in the machine's byte order (little-endian).

/// Appends arrays of numbers to `bytes`, one after the other, as they are in memory.
struct BinaryEncoder {
    private(set) var bytes: [UInt8] = []

    mutating func append<Number: BitwiseCopyable>(_ numbers: [Number]) {
        numbers.withUnsafeBytes { bytes += $0 }
    }
}

/// Decodes arrays of numbers, one after the other. The caller must pass their types and counts, and enough bytes.
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
