// Tensors in memory that can stand in for tensors of a file, and a reference matrix product.

import ArrayFiles
import Files

/// A copy of an array's bytes, which stays at one address until the object is released.
private final class Bytes {
    let buffer: UnsafeMutableRawBufferPointer

    /// Copies `source` to the address that is `shift` bytes after an address aligned to 64 bytes.
    init(_ source: UnsafeRawBufferPointer, shift: Int) {
        buffer = .allocate(byteCount: source.count + 64, alignment: 64)
        UnsafeMutableRawBufferPointer(rebasing: buffer[shift..<shift + source.count])
            .copyMemory(from: source)
    }

    deinit { buffer.deallocate() }
}

extension StoredTensor {
    /// Returns a tensor with the elements `values`, stored as `type`. The data starts `shift` bytes after an address
    /// aligned to 64 bytes.
    package static func inMemory(
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

/// Returns x · wᵀ in double precision, shape (m, n), for `x` of shape (m, k) and `w` of shape (n, k).
package func doubleProduct(_ x: [Float], _ w: [Float], _ m: Int, _ k: Int, _ n: Int) -> [Double] {
    (0..<m * n).map { i in
        let (row, output) = (i / n * k, i % n * k)
        var sum = 0.0
        for j in 0..<k { sum += Double(x[row + j]) * Double(w[output + j]) }
        return sum
    }
}
