// Files that appear whole or not at all.

import Glibc

/// A file written under a temporary name and renamed to its place by `commit`. Without `commit` it is removed when the
/// object goes. Its own folders are entered through no link, and a link in its place is replaced.
public final class OutputFile {
    /// Where the file is to be.
    public let place: GuardedPath
    /// Bytes written so far.
    public private(set) var count = 0
    private let temporary: GuardedPath
    private let descriptor: Int32
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
    private var buffered = 0
    private var isCommitted = false

    /// Begins a file for `place`, written in `folder`, which must be on the same file system. Throws where it cannot be
    /// created there.
    public init(_ place: GuardedPath, begunIn folder: GuardedPath) throws(FileError) {
        self.place = place
        guard let opened = try folder.folder() else {
            throw FileError("create a file in", folder.path, code: ENOENT)
        }
        let name: String
        (descriptor, name) = try opened.createUnique()
        temporary = folder / name
    }

    /// The same for a file whose folders a user has given.
    public convenience init(path: String, temporaryDirectory: String) throws(FileError) {
        try self.init(GuardedPath(file: path), begunIn: GuardedPath(temporaryDirectory))
    }

    deinit {
        close(descriptor)
        buffer.deallocate()
        if !isCommitted { try? temporary.remove() }
    }

    private var path: String { place.path }

    /// Gives the file these permissions, as far as the file system has any.
    public func setMode(_ mode: mode_t) { fchmod(descriptor, mode) }

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
        guard let folder = try temporary.parent.folder() else {
            throw FileError("rename", path, code: ENOENT)
        }
        try folder.rename(temporary.name, to: place.name, in: try place.existingParent())
        isCommitted = true
        return seal
    }

    /// Makes the file at `place` of what `body` writes, and returns its seal. Where another process has removed the
    /// unfinished file as a leftover, it is written again.
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
                // Where the folder has gone with it, the next attempt cannot be created.
                guard error.operation == "rename", error.code == ENOENT, !file.temporary.exists
                else { throw error }
            }
        }
    }

    /// The same for a file whose folders a user has given.
    @discardableResult
    public static func make(
        path: String, temporaryDirectory: String, _ body: (OutputFile) throws -> Void
    ) throws -> FileSeal {
        try make(GuardedPath(file: path), begunIn: GuardedPath(temporaryDirectory), body)
    }

    /// Makes the file as `make` does, and gives a descriptor with which writing goes on at its end.
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

    /// Puts the file in its place unless something is there already; says whether it did. Of several
    /// processes, on whatever machines, one does.
    public func commitIfAbsent() throws(FileError) -> Bool {
        try complete()
        guard let folder = try temporary.parent.folder() else {
            throw FileError("rename", path, code: ENOENT)
        }
        let code = folder.link(temporary.name, as: place.name, in: try place.existingParent())
        if code == 0 { return true }
        // A file system without hard links says so in many ways (EPERM, ENOTSUP, ENOSYS, EMLINK, EXDEV, …): nearly as good.
        // What is wrong otherwise shows in the renaming.
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

/// A name that no other process on any machine has: 64 random bits in hexadecimal digits.
public func uniqueName() -> String { String(UInt64.random(in: .min ... .max), radix: 16) }

extension Folder {
    /// Creates a file under a name that no other process on any machine has, ending in `.partial`, open for reading and
    /// writing; `mode` as for `open`. Throws `FileError`.
    public func createUnique(mode: mode_t = 0o666) throws(FileError) -> (
        descriptor: Int32, name: String
    ) {
        let name = uniqueName() + ".partial"
        do {
            if let descriptor = try open(name, O_RDWR | O_CREAT | O_EXCL, mode: mode) {
                return (descriptor, name)
            }
        } catch {
            // The name means nothing to anybody.
            throw FileError("create a file in", path, code: error.code)
        }
        throw FileError("create a file in", path, code: ENOENT)
    }
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
