// Telling one weight file from another without reading gigabytes.

import ArrayFiles
import Crypto
import Foundation

extension MappedFile {
    /// SHA-256 over the file's size, its first `headerLength` bytes and 64 blocks of 64 KiB spread evenly
    /// from front to end; a file of up to 4 MiB is hashed whole. Lower-case hex.
    func identity(headerLength: Int) -> String {
        var hash = SHA256()
        withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { hash.update(bufferPointer: $0) }
        let block = 1 << 16
        if bytes.count <= 64 * block {
            hash.update(bufferPointer: bytes)
        } else {
            hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: bytes[..<headerLength]))
            for i in 0..<64 {
                let start = (bytes.count - block) * i / 63
                hash.update(
                    bufferPointer: UnsafeRawBufferPointer(rebasing: bytes[start..<start + block]))
            }
        }
        return hash.finalize().map { String(format: "%02x", $0) }.joined()
    }
}
