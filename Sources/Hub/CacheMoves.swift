// Moves files within a cache. Its folders may be on several file systems, because `blobs` or `snapshots` may be a
// symlink.

import Files
import Glibc

extension HubCache {
    /// Permissions of a file while it is written, before the umask applies. Only the owner may write to it. Otherwise
    /// another user could change the file after its hash was checked.
    static let unfinishedMode: mode_t = 0o644

    /// Renames the file `name` in `folder` to `newName` in `target`, and replaces an existing `newName`. This process
    /// has written the file and has it open as `descriptor`. If the folders are on different file systems, copies the
    /// file and removes the original. Throws `FileError`.
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

    /// Copies the file `name` in `folder`, which may be another user's file, to `newName` in `target`. Throws
    /// `FileError`, also if a user could read the copy but not the original.
    func copy(
        _ name: String, from folder: Folder, to newName: String, in target: Folder
    ) throws(FileError) {
        guard let source = try folder.open(name) else {
            throw FileError("open", folder.path(of: name), code: ENOENT)
        }
        defer { close(source) }
        // `ordinaryMode` creates a temporary file. It must not be in `target`, where other processes look for files.
        let mode = try make(.own()).ordinaryMode
        try copy(source, folder.path(of: name), to: newName, in: target, mode: mode) {
            copy throws(FileError) in
            guard isReadableAnyway(source, byReadersOf: copy) else {
                throw FileError("copy", folder.path(of: name), code: EACCES)
            }
        }
    }

    /// Copies the open file `source` to `newName` in `target`. `path` names `source` in errors. The copy gets its
    /// final name when it is complete. Its permissions are `mode`, or `unfinishedMode` if `mode` is nil. `check` gets
    /// the descriptor of the copy before anything is written to it. Throws `FileError`.
    private func copy(
        _ source: Int32, _ path: String, to newName: String, in target: Folder, mode: mode_t?,
        _ check: (Int32) throws(FileError) -> Void = { _ in }
    ) throws(FileError) {
        // huggingface_hub also ends the names of incomplete files in `.incomplete`.
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

    /// Creates the symlink `name` in `folder` with the target `content`. Removes an existing `name` first, so for a
    /// moment `name` does not exist. Throws `FileError`.
    func replace(_ name: String, in folder: Folder, byLinkTo content: String) throws(FileError) {
        var code = folder.makeLink(name, to: content)
        if code == EEXIST {
            try folder.remove(name)
            code = folder.makeLink(name, to: content)
        }
        guard code == 0 else { throw FileError("create", folder.path(of: name), code: code) }
    }

    /// Returns `path` with all symlinks resolved. Throws `FileError`.
    func realPath(_ path: String) throws(FileError) -> String {
        guard let real = realpath(path, nil) else { throw FileError("open", path) }
        defer { free(real) }
        return String(cString: real)
    }
}

extension Folder {
    /// The permissions that the umask and the folder's access control list give to a new file in this folder. They
    /// are measured with a temporary file. Nil if no file can be created.
    var ordinaryMode: mode_t? {
        guard let (descriptor, name) = try? createUnique() else { return nil }
        defer { close(descriptor) }
        try? remove(name)
        var info = stat()
        return fstat(descriptor, &info) == 0 ? info.st_mode & 0o777 : nil
    }
}

/// Whether every user who may read the open file `copy` may also read the open file `original`, judged by the groups
/// and permissions of both files. Without this check, an attacker could hard-link a victim's private file into the
/// cache, and read the copy that the victim's process makes.
func isReadableAnyway(_ original: Int32, byReadersOf copy: Int32) -> Bool {
    var (from, to) = (stat(), stat())
    guard fstat(original, &from) == 0, fstat(copy, &to) == 0 else { return false }
    let isPublic = from.st_mode & S_IROTH != 0
    let isGroups = from.st_mode & S_IRGRP != 0 && from.st_gid == to.st_gid
    return (to.st_mode & S_IROTH == 0 || isPublic)
        && (to.st_mode & S_IRGRP == 0 || isPublic || isGroups)
}
