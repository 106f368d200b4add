// An input file with its identity, by which a later invocation recognizes the file.

import Crypto
import Files

/// An input file, as `run.json` and `ResumeSettings` describe it.
package struct InputFile: Sendable {
    /// The path of the file.
    package let path: String
    /// The number of bytes.
    package let size: Int
    /// The SHA-256 of parts of the file, as `MappedFile.identity` computes it.
    package let identity: String
    /// The version (size and time) of the file that was read.
    let version: FileVersion

    init(_ file: MappedFile, headerLength: Int) throws(FileError) {
        (path, version) = (file.path, file.version)
        size = file.bytes.count
        identity = try file.identity(headerLength: min(headerLength, size))
    }

    /// The last component of the path.
    package var name: String { path.split(separator: "/").last.map(String.init) ?? path }
}

extension MappedFile {
    /// Returns the SHA-256 in lower-case hexadecimal digits. It covers the file's size (u64), its first
    /// `headerLength` bytes, and 64 blocks of 64 KiB that are spread evenly over the file. A file is hashed whole if
    /// it has at most 4 MiB, or no data after the header.
    func identity(headerLength: Int) throws(FileError) -> String {
        var hash = SHA256()
        func update(_ range: Range<Int>) throws(FileError) {
            try load(range)
            hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: bytes[range]))
        }
        withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { hash.update(bufferPointer: $0) }
        let block = 1 << 16
        if bytes.count <= 64 * block || headerLength >= bytes.count {
            try update(0..<bytes.count)
        } else {
            try update(0..<headerLength)
            for i in 0..<64 {
                let start = (bytes.count - block) * i / 63
                try update(start..<start + block)
            }
        }
        return hexadecimal(hash.finalize())
    }
}
