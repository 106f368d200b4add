// Bringing files and folders to the disk, on file systems that can do it and on those that cannot.

import Glibc

/// Brings what was written to `descriptor` to the disk; with `dataOnly` without times and the like. Returns false, and
/// sets `errno`, where that failed so that data may be lost. A file system that knows no such call has written nothing
/// wrong: some in user space and on networks answer EINVAL, ENOTSUP or ENOSYS. (EROFS is none of these: ext4 says so after
/// it has given up on a broken disk.)
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

/// Makes the entries of the folder at `path` reach the disk: renames in it survive a loss of power. A folder that may not
/// be read (one that others may only write to) cannot be opened for that, and some file systems do not synchronize
/// folders: no error, since nothing has failed to be written.
public func synchronizeDirectory(_ path: String) throws(FileError) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else {
        if isWithoutSynchronizing(errno) { return }
        throw FileError("synchronize", path)
    }
    defer { close(descriptor) }
    try synchronizeFolder(descriptor, path)
}

/// Whether an error of opening a folder, to synchronize it, means no more than that it cannot be synchronized.
func isWithoutSynchronizing(_ code: Int32) -> Bool {
    [EACCES, EPERM, EINVAL, EOPNOTSUPP, ENOSYS].contains(code)
}

/// Makes the entries of the folder open as `descriptor` reach the disk; `path` names it in errors.
func synchronizeFolder(_ descriptor: Int32, _ path: String) throws(FileError) {
    // What was to be lost is lost with these alone; others say that folders cannot be synchronized here.
    guard synchronizeToDisk(descriptor) || ![EIO, ENOSPC, EDQUOT].contains(errno) else {
        throw FileError("synchronize", path)
    }
}
