// Tensors that lie in memory, as if read from a file.

import ArrayFiles
import Files

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

/// x · wᵀ of (m, k) and (n, k), in double precision.
public func doubleProduct(_ x: [Float], _ w: [Float], _ m: Int, _ k: Int, _ n: Int) -> [Double] {
    (0..<m * n).map { i in
        let (row, output) = (i / n * k, i % n * k)
        var sum = 0.0
        for j in 0..<k { sum += Double(x[row + j]) * Double(w[output + j]) }
        return sum
    }
}
