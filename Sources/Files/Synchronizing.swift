// Writes files and folders to the disk, also on file systems that cannot synchronize.

import Glibc

/// Writes what was written to `descriptor` to the disk; with `dataOnly`, without times and other metadata. Returns false and sets
/// `errno` on an error that may lose data. Some FUSE and network file systems do not know the call and answer EINVAL, ENOTSUP or
/// ENOSYS: no data is lost, so the result is true. (EROFS is an error: ext4 reports it after it has given up on a broken disk.)
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

/// Writes the entries of the folder at `path` to the disk, so that renames in it survive a loss of power. Throws `FileError`. A
/// folder that may not be read cannot be opened for this call, and some file systems do not synchronize folders. In both cases
/// nothing is thrown, because no write has failed.
public func synchronizeDirectory(_ path: String) throws(FileError) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else {
        if isWithoutSynchronizing(errno) { return }
        throw FileError("synchronize", path)
    }
    defer { close(descriptor) }
    try synchronizeFolder(descriptor, path)
}

/// Returns whether an error from opening a folder to synchronize it only means that the folder cannot be synchronized.
func isWithoutSynchronizing(_ code: Int32) -> Bool {
    [EACCES, EPERM, EINVAL, EOPNOTSUPP, ENOSYS].contains(code)
}

/// Writes the entries of the folder that is open as `descriptor` to the disk; `path` names it in errors. Throws `FileError`.
func synchronizeFolder(_ descriptor: Int32, _ path: String) throws(FileError) {
    // Only these errors mean lost data. Other errors mean that folders cannot be synchronized on this file system.
    guard synchronizeToDisk(descriptor) || ![EIO, ENOSPC, EDQUOT].contains(errno) else {
        throw FileError("synchronize", path)
    }
}
