// Tensors that lie in memory, as if read from a file.

import ArrayFiles

/// Keeps an array's bytes in place.
private final class Bytes {
    let buffer: UnsafeMutableRawBufferPointer

    /// A copy that begins `shift` bytes past an aligned address.
    init(_ source: UnsafeRawBufferPointer, shift: Int) {
        buffer = .allocate(byteCount: source.count + 64, alignment: 64)
        UnsafeMutableRawBufferPointer(rebasing: buffer[shift..<shift + source.count])
            .copyMemory(from: source)
    }

    deinit { buffer.deallocate() }
}

extension StoredTensor {
    /// `values` stored as `type`, beginning `shift` bytes past an aligned address.
    public static func inMemory(
        _ values: [Float], _ shape: [Int], as type: ElementType = .float32, shift: Int = 0,
        isFortranOrder: Bool = false
    ) -> StoredTensor {
        let bytes: [UInt8] =
            switch type {
            case .float32: values.flatMap { withUnsafeBytes(of: $0, Array.init) }
            case .bfloat16:
                values.flatMap { withUnsafeBytes(of: UInt16($0.bitPattern >> 16), Array.init) }
            case .float16: values.flatMap { withUnsafeBytes(of: Float16($0), Array.init) }
            }
        return bytes.withUnsafeBytes { raw in
            let owner = Bytes(raw, shift: shift)
            return StoredTensor(
                name: "tensor", path: "memory", elementType: type, shape: shape,
                isFortranOrder: isFortranOrder,
                bytes: UnsafeRawBufferPointer(rebasing: owner.buffer[shift..<shift + raw.count]),
                owner: owner)
        }
    }
}
