// How much free space a file system has, in bytes and in files.

import Glibc

/// The numbers of bytes and of files that this user may still write to a file system. Some file systems do not report
/// them.
public struct FreeSpace: Equatable, Sendable {
    /// Free bytes; nil if unknown.
    public let bytes: Int?
    /// Free files (inodes); nil if unknown or unlimited.
    public let files: Int?

    /// Asks the file system of `path`, or of the nearest existing folder above `path`. A number is nil if the file
    /// system does not report it: the call fails, or the total is 0. For example, btrfs reports 0 inodes.
    public init(at path: String) {
        var folder = path
        while !fileExists(folder) {
            folder = folder.lastIndex(of: "/").map { String(folder[..<$0]) } ?? "."
            if folder.isEmpty { folder = "/" }
        }
        var info = statvfs()
        guard statvfs(folder, &info) == 0 else {
            (bytes, files) = (nil, nil)
            return
        }
        let size = Int(clamping: info.f_frsize > 0 ? info.f_frsize : info.f_bsize)
        let (product, isTooMany) = Int(clamping: info.f_bavail).multipliedReportingOverflow(
            by: size)
        bytes = info.f_blocks > 0 && size > 0 ? (isTooMany ? .max : product) : nil
        files = info.f_files > 0 ? Int(clamping: info.f_favail) : nil
    }

    /// Whether no more files can be created although more than 64 KiB of space are free.
    var isOutOfInodes: Bool { files == 0 && (bytes ?? 0) > 1 << 16 }
}
