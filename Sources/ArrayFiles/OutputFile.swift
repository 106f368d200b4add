// Files that appear whole or not at all.

import Glibc

/// A file written under a temporary path and renamed to its place by `commit`. Without `commit` it is
/// removed when the object goes.
public final class OutputFile {
    /// Where the file is to be.
    public let path: String
    /// Bytes written so far.
    public private(set) var count = 0
    private let temporaryPath: String
    private let descriptor: Int32
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
    private var buffered = 0
    private var isCommitted = false

    /// Begins a file for `path`, written in the folder `temporaryDirectory`, which must be on the same file
    /// system. Throws where it cannot be created there.
    public init(path: String, temporaryDirectory: String) throws(FileError) {
        self.path = path
        (descriptor, temporaryPath) = try createUniqueFile(in: temporaryDirectory)
    }

    deinit {
        close(descriptor)
        buffer.deallocate()
        if !isCommitted { unlink(temporaryPath) }
    }

    /// Appends `bytes`.
    public func write(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
        count += bytes.count
        if bytes.count <= buffer.count - buffered {
            UnsafeMutableRawBufferPointer(rebasing: buffer[buffered...]).copyMemory(from: bytes)
            buffered += bytes.count
            return
        }
        try flush()
        if bytes.count < buffer.count {
            buffer.copyMemory(from: bytes)
            buffered = bytes.count
        } else {
            try writeThrough(bytes)
        }
    }

    /// Appends `bytes`.
    public func write(_ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { try write($0) }
    }

    /// Replaces bytes written before, beginning at `offset`.
    public func overwrite(_ bytes: [UInt8], at offset: Int) throws(FileError) {
        try flush()
        guard pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count else {
            throw FileError("write", path)
        }
    }

    /// Puts the file in its place: its bytes reach the disk, then it is renamed, replacing what was there.
    /// The seal is of the bytes as the system gives them back.
    @discardableResult
    public func commit() throws(FileError) -> FileSeal {
        let seal = try complete()
        guard rename(temporaryPath, path) == 0 else { throw FileError("rename", path) }
        isCommitted = true
        return seal
    }

    /// Makes the file at `path` of what `body` writes, and returns its seal. Where another process has removed the
    /// unfinished file as a leftover, it is written again.
    @discardableResult
    public static func make(
        path: String, temporaryDirectory: String, _ body: (OutputFile) throws -> Void
    ) throws -> FileSeal {
        while true {
            let file = try OutputFile(path: path, temporaryDirectory: temporaryDirectory)
            try body(file)
            do {
                return try file.commit()
            } catch {
                // Where the folder has gone with it, the next attempt cannot be created.
                guard error.operation == "rename", error.code == ENOENT,
                    !fileExists(file.temporaryPath)
                else { throw error }
            }
        }
    }

    /// Puts the file in its place unless something is there already; says whether it did. Of several
    /// processes, on whatever machines, one does.
    public func commitIfAbsent() throws(FileError) -> Bool {
        try complete()
        if link(temporaryPath, path) == 0 { return true }
        // A file system without hard links says so in many ways (EPERM, ENOTSUP, ENOSYS, EMLINK, EXDEV, …): nearly as good.
        // What is wrong otherwise shows in the renaming.
        if errno == EEXIST || fileExists(path) { return false }
        try commit()
        return true
    }

    @discardableResult
    private func complete() throws(FileError) -> FileSeal {
        try flush()
        guard synchronizeToDisk(descriptor) else { throw FileError("write", path) }
        return try FileSeal(reading: descriptor, path: temporaryPath)
    }

    private func flush() throws(FileError) {
        try writeThrough(UnsafeRawBufferPointer(rebasing: buffer[..<buffered]))
        buffered = 0
    }

    private func writeThrough(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
        try writeAll(bytes, to: descriptor, path: path)
    }
}

/// Creates a file in `directory` under a name that no other process on any machine has, ending in
/// `.partial`, open for reading and writing.
public func createUniqueFile(
    in directory: String
) throws(FileError) -> (descriptor: Int32, path: String) {
    let path = "\(directory)/\(String(UInt64.random(in: .min ... .max), radix: 16)).partial"
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    // The name means nothing to anybody.
    guard descriptor >= 0 else { throw FileError("create a file in", directory) }
    return (descriptor, path)
}

/// Writes all of `bytes` to `descriptor`; `path` names it in errors.
public func writeAll(
    _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, path: String
) throws(FileError) {
    var rest = bytes
    while !rest.isEmpty {
        let written = Glibc.write(descriptor, rest.baseAddress, rest.count)
        if written < 0, errno == EINTR { continue }
        guard written > 0 else { throw FileError("write", path) }
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(written))
    }
}
