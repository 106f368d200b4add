// Moves files to their places in a cache whose folders may be on several file systems: `blobs` or `snapshots` may be links.

import Files
import Glibc

extension HubCache {
    /// Permissions of files while they are written, before the umask. Others must not be able to write: they could change a file
    /// after it was hashed.
    static let unfinishedMode: mode_t = 0o644

    /// Renames the file `name` in `folder`, which this process has written and holds open as `descriptor`, to `newName` in
    /// `target`, and replaces what is there. Between file systems the open file is copied instead. Throws `FileError`.
    func move(
        _ name: String, open descriptor: Int32, from folder: Folder, to newName: String,
        in target: Folder
    ) throws(FileError) {
        do {
            try folder.rename(name, to: newName, in: target)
        } catch {
            guard error.code == EXDEV else { throw error }
            var info = stat()
            let mode = fstat(descriptor, &info) == 0 ? info.st_mode & 0o777 : nil
            try copy(descriptor, folder.path(of: name), to: newName, in: target, mode: mode)
            try? folder.remove(name)
        }
    }

    /// Copies the file `name` in `folder`, which others may have put there, to `newName` in `target`. Throws `FileError`, also if
    /// users could read the copy who may not read the original.
    func copy(
        _ name: String, from folder: Folder, to newName: String, in target: Folder
    ) throws(FileError) {
        guard let source = try folder.open(name) else {
            throw FileError("open", folder.path(of: name), code: ENOENT)
        }
        defer { close(source) }
        // The permissions are tried out in our own folder, not in `target`: others look for files there.
        let mode = try make(.own()).ordinaryMode
        try copy(source, folder.path(of: name), to: newName, in: target, mode: mode) {
            copy throws(FileError) in
            guard isReadableAnyway(source, byReadersOf: copy) else {
                throw FileError("copy", folder.path(of: name), code: EACCES)
            }
        }
    }

    /// Copies the open file at `path` to `newName` in `target`. The copy appears whole or not at all, with the permissions `mode`
    /// (nil: those of an unfinished file). `check` is called with the empty copy. Throws `FileError`.
    private func copy(
        _ source: Int32, _ path: String, to newName: String, in target: Folder, mode: mode_t?,
        _ check: (Int32) throws(FileError) -> Void = { _ in }
    ) throws(FileError) {
        // huggingface_hub gives such names to files that are not complete.
        let temporary =
            "\(newName).\(uniqueName()).incomplete"
        guard
            let copy = try target.open(
                temporary, O_WRONLY | O_CREAT | O_EXCL, mode: HubCache.unfinishedMode)
        else {
            throw FileError("create", target.path(of: temporary), code: ENOENT)
        }
        defer { close(copy) }
        do throws(FileError) {
            try check(copy)
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
            defer { buffer.deallocate() }
            var offset: off_t = 0
            while true {
                let count = pread(source, buffer.baseAddress, buffer.count, offset)
                if count < 0, errno == EINTR { continue }
                guard count >= 0 else { throw FileError("read", path) }
                if count == 0 { break }
                offset += off_t(count)
                try writeAll(
                    UnsafeRawBufferPointer(rebasing: buffer[..<count]), to: copy,
                    path: target.path(of: temporary))
            }
            guard synchronizeToDisk(copy) else {
                throw FileError("write", target.path(of: temporary))
            }
            if let mode { fchmod(copy, mode) }
            try target.rename(temporary, to: newName, in: target)
        } catch {
            try? target.remove(temporary)
            throw error
        }
    }

    /// Makes a symlink called `name` in `folder` that leads to `content`, without a temporary name, and replaces what is there.
    /// Throws `FileError`.
    func replace(_ name: String, in folder: Folder, byLinkTo content: String) throws(FileError) {
        var code = folder.makeLink(name, to: content)
        if code == EEXIST {
            try folder.remove(name)
            code = folder.makeLink(name, to: content)
        }
        guard code == 0 else { throw FileError("create", folder.path(of: name), code: code) }
    }

    /// Returns `path` with all links resolved. Throws `FileError`.
    func realPath(_ path: String) throws(FileError) -> String {
        guard let real = realpath(path, nil) else { throw FileError("open", path) }
        defer { free(real) }
        return String(cString: real)
    }
}

extension Folder {
    /// The permissions that new files get in this folder by the umask and the folder, measured with a temporary file; nil if no
    /// file can be created. The umask of a group that shares a cache lets the whole group write.
    var ordinaryMode: mode_t? {
        guard let (descriptor, name) = try? createUnique() else { return nil }
        defer { close(descriptor) }
        try? remove(name)
        var info = stat()
        return fstat(descriptor, &info) == 0 ? info.st_mode & 0o777 : nil
    }
}

/// Whether everybody who may read the open file `copy` may also read the open file `original`, as far as their modes say.
/// Otherwise others could read a file that somebody has linked into the cache through its copy.
func isReadableAnyway(_ original: Int32, byReadersOf copy: Int32) -> Bool {
    var (from, to) = (stat(), stat())
    guard fstat(original, &from) == 0, fstat(copy, &to) == 0 else { return false }
    let isPublic = from.st_mode & S_IROTH != 0
    let isGroups = from.st_mode & S_IRGRP != 0 && from.st_gid == to.st_gid
    return (to.st_mode & S_IROTH == 0 || isPublic)
        && (to.st_mode & S_IRGRP == 0 || isPublic || isGroups)
}
