// Read-only memory maps: weights are used where they lie on disk.

import ByteJSON
import Glibc

/// A whole file mapped read-only; the mapping lasts as long as this object.
public final class MappedFile: @unchecked Sendable {
    /// The path as given.
    public let path: String
    /// The file's bytes.
    public let bytes: UnsafeRawBufferPointer

    /// Maps the regular file at `path`. Throws where it cannot be opened, is not a regular file, or cannot
    /// be mapped.
    public init(path: String) throws(FileError) {
        self.path = path
        // Not to wait at a pipe that nobody writes to: it is refused below.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw FileError("open", path) }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw FileError("examine", path) }
        guard info.st_mode & S_IFMT == S_IFREG else {
            let isFolder = info.st_mode & S_IFMT == S_IFDIR
            throw FileError("read", path, code: isFolder ? EISDIR : EINVAL)
        }
        let size = Int(info.st_size)
        guard size > 0 else {
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            return
        }
        guard let base = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED
        else { throw FileError("map", path) }
        bytes = UnsafeRawBufferPointer(start: base, count: size)
    }

    /// Calls `body` with the file's bytes and keeps the mapping until it returns.
    public func withBytes<R, E: Error>(
        _ body: (UnsafeBufferPointer<UInt8>) throws(E) -> R
    ) throws(E) -> R {
        defer { withExtendedLifetime(self) {} }
        return try body(bytes.bindMemory(to: UInt8.self))
    }

    /// The file's content as one JSON document.
    public func parsedJSON() throws(JSONSyntaxError) -> JSONValue {
        try withBytes { (bytes) throws(JSONSyntaxError) in try JSONValue(parsing: bytes) }
    }

    deinit {
        if let base = bytes.baseAddress {
            munmap(UnsafeMutableRawPointer(mutating: base), bytes.count)
        }
    }
}
