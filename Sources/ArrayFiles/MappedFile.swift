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
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
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

    /// The file's content as one JSON document.
    public func parsedJSON() throws(JSONSyntaxError) -> JSONValue {
        try JSONValue(parsing: bytes.bindMemory(to: UInt8.self))
    }

    deinit {
        if let base = bytes.baseAddress {
            munmap(UnsafeMutableRawPointer(mutating: base), bytes.count)
        }
    }
}
