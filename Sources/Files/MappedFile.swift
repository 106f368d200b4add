// Read-only memory maps of files, so that weights are used directly from the file. If a file system cannot map files,
// memory addresses are reserved, and only the requested parts of a file are read into them.

import ByteJSON
import Glibc
import Synchronization

/// The bytes of a whole file, read-only, at addresses that are fixed as long as this object exists. If the file
/// cannot be memory-mapped, it is read into memory.
public final class MappedFile: @unchecked Sendable {
    /// How much of a file is read when it is opened, if the file cannot be memory-mapped.
    public enum Extent {
        /// The whole file.
        case whole
        /// Nothing. The caller must call `load` before it accesses a part of `bytes`.
        case onDemand
    }

    /// The path as given.
    public let path: String
    /// The bytes of the file. After `Extent.onDemand`, access only parts that `load` has loaded: an access to another
    /// part can end the process.
    public let bytes: UnsafeRawBufferPointer
    /// The version that the file had when it was opened.
    public let version: FileVersion
    /// Reads parts of the file into memory. Nil if the file is memory-mapped.
    private let reading: Reading?

    /// Opens the regular file at `path`. Throws `FileError` if it cannot be opened or read, or is not a regular file.
    public convenience init(path: String, _ extent: Extent = .whole) throws(FileError) {
        try self.init(path: path, extent) { descriptor, size in
            mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0)
        }
    }

    /// Opens the regular file at `place`, in a folder that other users may write to. Throws as `init(path:_:)` does.
    public convenience init(_ place: GuardedPath) throws(FileError) {
        guard let descriptor = try place.open() else {
            throw FileError("open", place.path, code: ENOENT)
        }
        try self.init(descriptor: descriptor, path: place.path, .whole) { descriptor, size in
            mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0)
        }
    }

    /// Opens a file as `init(path:_:)` does, but calls `map` in place of `mmap`. `map` receives a descriptor and a
    /// number of bytes, and returns an address as `mmap` does.
    convenience init(
        path: String, _ extent: Extent, map: (Int32, Int) -> UnsafeMutableRawPointer?
    ) throws(FileError) {
        // Without O_NONBLOCK, opening a FIFO would wait for a writer. The initializer below refuses a FIFO.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw FileError("open", path) }
        try self.init(descriptor: descriptor, path: path, extent, map: map)
    }

    /// Opens the file of `descriptor` as the other initializers do. Takes ownership of `descriptor`.
    private init(
        descriptor: Int32, path: String, _ extent: Extent,
        map: (Int32, Int) -> UnsafeMutableRawPointer?
    ) throws(FileError) {
        self.path = path
        var isKept = false
        defer { if !isKept { close(descriptor) } }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw FileError("examine", path) }
        guard info.st_mode & S_IFMT == S_IFREG else {
            let isFolder = info.st_mode & S_IFMT == S_IFDIR
            throw FileError("read", path, code: isFolder ? EISDIR : EINVAL)
        }
        version = FileVersion(path: path, info)
        let size = Int(info.st_size)
        guard size > 0 else {
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            reading = nil
            return
        }
        if let base = map(descriptor, size), base != MAP_FAILED {
            bytes = UnsafeRawBufferPointer(start: base, count: size)
            reading = nil
            MappedFile.remember(base, size, path)
            return
        }
        let error = FileError("map", path)
        guard MappedFile.canBeReadInstead(error.code) else { throw error }
        // Reserves addresses without memory and without access rights. So an access to a part that is not loaded ends
        // the process instead of returning zeros.
        guard
            let base = mmap(
                nil, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            base != MAP_FAILED
        else { throw FileError("reserve memory for", path) }
        bytes = UnsafeRawBufferPointer(start: base, count: size)
        reading = Reading(descriptor: descriptor, base: base, size: size)
        isKept = true
        MappedFile.unmapped.withLock { $0[path] = Unmapped(size: size, code: error.code) }
        if extent == .whole { try load(0..<size) }
    }

    /// Whether the `mmap` error `code` means that the file cannot be mapped, but can perhaps be read. False if memory
    /// is short.
    private static func canBeReadInstead(_ code: Int32) -> Bool {
        [ENODEV, EINVAL, EACCES, EPERM, ENOSYS, EOPNOTSUPP].contains(code)
    }

    /// Makes the bytes in `range` accessible. Reads them, unless the file is memory-mapped or they are already
    /// loaded. Throws `FileError`.
    public func load(_ range: Range<Int>) throws(FileError) {
        precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count)
        guard let reading, !range.isEmpty else { return }
        try reading.load(range, of: path)
    }

    /// Calls `body` with the bytes of the file and keeps them valid until `body` returns.
    public func withBytes<R, E: Error>(
        _ body: (UnsafeBufferPointer<UInt8>) throws(E) -> R
    ) throws(E) -> R {
        defer { withExtendedLifetime(self) {} }
        return try body(bytes.bindMemory(to: UInt8.self))
    }

    /// Parses the file as one JSON document. Throws `JSONSyntaxError`.
    public func parsedJSON() throws(JSONSyntaxError) -> JSONValue {
        try withBytes { (bytes) throws(JSONSyntaxError) in try JSONValue(parsing: bytes) }
    }

    deinit {
        if let base = bytes.baseAddress {
            if reading == nil { MappedFile.forget(base) }
            munmap(UnsafeMutableRawPointer(mutating: base), bytes.count)
        }
    }

    // MARK: Files that could not be mapped

    /// A file that this process read into memory because it could not be memory-mapped.
    private struct Unmapped {
        let size: Int
        let code: Int32
    }

    private static let unmapped = Mutex<[String: Unmapped]>([:])

    /// A note for the log about the files that this process could not map. Nil if every file was mapped.
    public static var unmappedNote: String? {
        let files = unmapped.withLock { $0 }
        guard let first = files.min(by: { $0.key < $1.key }) else { return nil }
        let megabytes = files.values.reduce(0) { $0 + $1.size } / 1_000_000
        let rest = files.count > 1 ? " and \(files.count - 1) other files" : ""
        let memory =
            megabytes < 100
            ? ""
            : ", which takes up to \(megabytes) MB of memory in each worker; copy the files to a local disk to avoid this"
        return
            "\(first.key)\(rest) cannot be mapped (\(String(cString: strerror(first.value.code)))), and \(files.count > 1 ? "are" : "is") read into memory instead\(memory)"
    }
}

/// Reads parts of a file into reserved addresses.
private final class Reading: Sendable {
    private let descriptor: Int32
    private let base: Int
    private let size: Int
    /// For each part of `Reading.part` bytes: whether it has been read.
    private let isThere: Mutex<[Bool]>

    /// The number of bytes of a part. It is a multiple of the page size of every machine.
    private static let part = 1 << 16

    /// Takes ownership of `descriptor`. `load` makes addresses from `base` on accessible and reads the file to them.
    init(descriptor: Int32, base: UnsafeMutableRawPointer, size: Int) {
        self.descriptor = descriptor
        self.base = Int(bitPattern: base)
        self.size = size
        isThere = Mutex(Array(repeating: false, count: (size - 1) / Reading.part + 1))
    }

    deinit { close(descriptor) }

    func load(_ range: Range<Int>, of path: String) throws(FileError) {
        let parts = range.lowerBound / Reading.part...(range.upperBound - 1) / Reading.part
        try isThere.withLock { (isThere) throws(FileError) in
            var next = parts.lowerBound
            while next <= parts.upperBound {
                guard !isThere[next] else {
                    next += 1
                    continue
                }
                var end = next + 1
                while end <= parts.upperBound, !isThere[end] { end += 1 }
                try read(next * Reading.part..<min(size, end * Reading.part), of: path)
                for part in next..<end { isThere[part] = true }
                next = end
            }
        }
    }

    private func read(_ range: Range<Int>, of path: String) throws(FileError) {
        let start = UnsafeMutableRawPointer(bitPattern: base + range.lowerBound)!
        guard mprotect(start, range.count, PROT_READ | PROT_WRITE) == 0 else {
            throw FileError("reserve memory for", path)
        }
        var done = 0
        while done < range.count {
            let count = pread(
                descriptor, start + done, range.count - done, off_t(range.lowerBound + done))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileError("read", path) }
            // The end of the file: the file has become shorter since it was opened.
            guard count > 0 else { throw FileError("read", path, code: ENODATA) }
            done += count
        }
    }
}
