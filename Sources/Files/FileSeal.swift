// Telling whether a file is still the one that was written.

import Glibc

/// A file's size and CRC-32 (ISO 3309).
public struct FileSeal: Codable, Equatable, Sendable {
    /// Bytes.
    public let size: Int
    /// CRC-32 of all bytes.
    public let crc32: UInt32

    /// What was recorded of a file.
    public init(size: Int, crc32: UInt32) {
        (self.size, self.crc32) = (size, crc32)
    }

    /// The seal of the file at `path`; nil where there is none. Throws `FileError` where it cannot be read.
    public init?(path: String) throws(FileError) {
        // Not to wait at a pipe, nor to read a device without end.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw FileError("open", path)
        }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
            throw FileError(path, isA: FileError.Entry(info.st_mode), expected: "a file")
        }
        self = try FileSeal(reading: descriptor, path: path)
    }

    /// Reads all of `descriptor`, which `path` names in errors.
    init(reading descriptor: Int32, path: String) throws(FileError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
        defer { buffer.deallocate() }
        var (size, crc) = (0, UInt32(0))
        while true {
            let count = pread(descriptor, buffer.baseAddress, buffer.count, off_t(size))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileError("read", path) }
            if count == 0 { break }
            crc = Files.crc32(UnsafeRawBufferPointer(rebasing: buffer[..<count]), from: crc)
            size += count
        }
        (self.size, self.crc32) = (size, crc)
    }
}
