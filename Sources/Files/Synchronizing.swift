// Writes files and folders to the disk (fsync), also on file systems that do not support fsync.

import Glibc

/// Writes the data of the open file `descriptor` to the disk. With `dataOnly`, leaves out metadata such as times.
/// Returns false and sets `errno` if data may be lost. Returns true if the file system does not support the call
/// (EINVAL, ENOTSUP or ENOSYS). EROFS counts as an error, because ext4 reports EROFS after a disk failure.
public func synchronizeToDisk(_ descriptor: Int32, dataOnly: Bool = false) -> Bool {
    while true {
        if (dataOnly ? fdatasync(descriptor) : fsync(descriptor)) == 0 { return true }
        switch errno {
        case EINTR: continue
        case EINVAL, EOPNOTSUPP, ENOSYS: return true
        default: return false
        }
    }
}

/// Writes the list of entries of the folder at `path` to the disk, so that renames in it survive a power failure.
/// Throws `FileError` if a write failed. Does nothing if this user may not open the folder, or if the file system
/// does not synchronize folders.
public func synchronizeDirectory(_ path: String) throws(FileError) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else {
        if isWithoutSynchronizing(errno) { return }
        throw FileError("synchronize", path)
    }
    defer { close(descriptor) }
    try synchronizeFolder(descriptor, path)
}

/// Returns whether `code`, the error from opening a folder, only means that the folder cannot be synchronized. Such
/// an error is ignored.
func isWithoutSynchronizing(_ code: Int32) -> Bool {
    [EACCES, EPERM, EINVAL, EOPNOTSUPP, ENOSYS].contains(code)
}

/// Writes the list of entries of the open folder `descriptor` to the disk; `path` names the folder in errors. Throws
/// `FileError`.
func synchronizeFolder(_ descriptor: Int32, _ path: String) throws(FileError) {
    // Only EIO, ENOSPC and EDQUOT mean lost data. After any other error, the file system does not synchronize
    // folders.
    guard synchronizeToDisk(descriptor) || ![EIO, ENOSPC, EDQUOT].contains(errno) else {
        throw FileError("synchronize", path)
    }
}
