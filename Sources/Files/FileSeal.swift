// A file's size and checksum. They show whether the file is unchanged since it was written.

import Glibc

/// A file's size and CRC-32 (ISO 3309). A file with another size or CRC-32 is not the file that was sealed.
public struct FileSeal: Codable, Equatable, Sendable {
    /// The size in bytes.
    public let size: Int
    /// CRC-32 of all bytes.
    public let crc32: UInt32

    /// Makes a seal from recorded values.
    public init(size: Int, crc32: UInt32) {
        (self.size, self.crc32) = (size, crc32)
    }

    /// Reads the regular file at `path` and makes its seal. Nil if the file does not exist. Throws `FileError` if the
    /// file cannot be read.
    public init?(path: String) throws(FileError) {
        // Without O_NONBLOCK, opening a FIFO would wait for a writer. FIFOs and devices are refused below, because
        // reading some of them never ends.
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

    /// Reads the whole file that is open as `descriptor` and makes its seal. `path` names the file in errors.
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
