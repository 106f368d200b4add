// Output files that are complete as soon as they exist at their final path.

import Glibc

/// A file that is written under a temporary name until `commit` renames it to its final place. Without `commit`, the
/// temporary file is removed together with this object. Symlinks below `place.root` are not followed. A symlink at
/// the final place is replaced.
public final class OutputFile {
    /// The final place of the file.
    public let place: GuardedPath
    /// The number of bytes written so far.
    public private(set) var count = 0
    private let temporary: GuardedPath
    private let descriptor: Int32
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
    private var buffered = 0
    private var isCommitted = false

    /// Creates the temporary file in `folder`, which must be on the same file system as `place`. Throws `FileError`.
    public init(_ place: GuardedPath, begunIn folder: GuardedPath) throws(FileError) {
        self.place = place
        guard let opened = try folder.folder() else {
            throw FileError("create a file in", folder.path, code: ENOENT)
        }
        let name: String
        (descriptor, name) = try opened.createUnique()
        temporary = folder / name
    }

    /// Creates the temporary file. Both paths are paths that the user has given.
    public convenience init(path: String, temporaryDirectory: String) throws(FileError) {
        try self.init(GuardedPath(file: path), begunIn: GuardedPath(temporaryDirectory))
    }

    deinit {
        close(descriptor)
        buffer.deallocate()
        if !isCommitted { try? temporary.remove() }
    }

    private var path: String { place.path }

    /// Sets the permissions of the file. Ignores errors, because some file systems do not support permissions.
    public func setMode(_ mode: mode_t) { fchmod(descriptor, mode) }

    /// Appends `bytes`. Throws `FileError`.
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

    /// Appends `bytes`. Throws `FileError`.
    public func write(_ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { try write($0) }
    }

    /// Overwrites bytes that were written before, starting at byte `offset`. Throws `FileError`.
    public func overwrite(_ bytes: [UInt8], at offset: Int) throws(FileError) {
        try flush()
        guard pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count else {
            throw FileError("write", path)
        }
    }

    /// Writes the file to the disk, reads it back for its seal, and renames it to its final place, where it replaces
    /// an existing entry. Returns the seal. Throws `FileError`.
    @discardableResult
    public func commit() throws(FileError) -> FileSeal {
        let seal = try complete()
        guard let folder = try temporary.parent.folder() else {
            throw FileError("rename", path, code: ENOENT)
        }
        try folder.rename(temporary.name, to: place.name, in: try place.existingParent())
        isCommitted = true
        return seal
    }

    /// Creates the file at `place` with the bytes that `body` writes, and returns its seal. If another process
    /// removes the temporary file, starts again with a new file and calls `body` again. Throws `FileError` and the
    /// errors of `body`.
    @discardableResult
    public static func make(
        _ place: GuardedPath, begunIn folder: GuardedPath, _ body: (OutputFile) throws -> Void
    ) throws -> FileSeal {
        while true {
            let file = try OutputFile(place, begunIn: folder)
            try body(file)
            do {
                return try file.commit()
            } catch {
                // If the folder was removed too, the next attempt cannot create its temporary file and throws.
                guard error.operation == "rename", error.code == ENOENT, !file.temporary.exists
                else { throw error }
            }
        }
    }

    /// Creates the file as the function above does. Both paths are paths that the user has given.
    @discardableResult
    public static func make(
        path: String, temporaryDirectory: String, _ body: (OutputFile) throws -> Void
    ) throws -> FileSeal {
        try make(GuardedPath(file: path), begunIn: GuardedPath(temporaryDirectory), body)
    }

    /// Creates the file as `make` does. Returns a descriptor that continues writing at the end of the file. The
    /// caller closes the descriptor.
    public static func makeKeepingOpen(
        _ place: GuardedPath, begunIn folder: GuardedPath, _ body: (OutputFile) throws -> Void
    ) throws -> Int32 {
        var kept: Int32 = -1
        do {
            try make(place, begunIn: folder) { file in
                if kept >= 0 { close(kept) }
                kept = -1
                try body(file)
                kept = fcntl(file.descriptor, F_DUPFD_CLOEXEC, 0)
                guard kept >= 0 else { throw FileError("open", place.path) }
            }
        } catch {
            if kept >= 0 { close(kept) }
            throw error
        }
        return kept
    }

    /// Moves the file to its final place unless an entry exists there. Returns whether the file was moved. If several
    /// processes try this at the same time, exactly one succeeds, provided that the file system has hard links.
    /// Throws `FileError`.
    public func commitIfAbsent() throws(FileError) -> Bool {
        try complete()
        guard let folder = try temporary.parent.folder() else {
            throw FileError("rename", path, code: ENOENT)
        }
        let code = folder.link(temporary.name, as: place.name, in: try place.existingParent())
        if code == 0 { return true }
        // If the file system has no hard links, `link` fails with one of many errors. Then the file is renamed,
        // unless an entry exists. Between this check and the rename, another process could create the entry. If
        // `link` failed for another reason, the rename fails too and reports it.
        if code == EEXIST || place.exists { return false }
        try commit()
        return true
    }

    @discardableResult
    private func complete() throws(FileError) -> FileSeal {
        try flush()
        guard synchronizeToDisk(descriptor) else { throw FileError("write", path) }
        return try FileSeal(reading: descriptor, path: temporary.path)
    }

    private func flush() throws(FileError) {
        try writeThrough(UnsafeRawBufferPointer(rebasing: buffer[..<buffered]))
        buffered = 0
    }

    private func writeThrough(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
        try writeAll(bytes, to: descriptor, path: path)
    }
}

/// Returns a name that no other process on any machine makes: 64 random bits in hexadecimal digits.
public func uniqueName() -> String { String(UInt64.random(in: .min ... .max), radix: 16) }

extension Folder {
    /// Creates a file with a unique name that ends in `.partial`, open for reading and writing. `mode` is its
    /// permissions before the umask applies. Throws `FileError`.
    public func createUnique(mode: mode_t = 0o666) throws(FileError) -> (
        descriptor: Int32, name: String
    ) {
        let name = uniqueName() + ".partial"
        do {
            if let descriptor = try open(name, O_RDWR | O_CREAT | O_EXCL, mode: mode) {
                return (descriptor, name)
            }
        } catch {
            // The random name means nothing to the user, so the error names the folder instead.
            throw FileError("create a file in", path, code: error.code)
        }
        throw FileError("create a file in", path, code: ENOENT)
    }
}

/// Writes all of `bytes` to `descriptor`; `path` names the file in errors. Throws `FileError`.
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
