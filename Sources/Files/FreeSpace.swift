// How much space a file system has left.

import Glibc

/// What this user may still write to a file system, as far as the file system reports it.
public struct FreeSpace: Equatable, Sendable {
    /// Free bytes; nil if unknown.
    public let bytes: Int?
    /// Free files (inodes); nil if unknown or unlimited.
    public let files: Int?

    /// Asks the file system of `path`, or of the nearest folder above it that exists. FUSE and network file systems, and btrfs
    /// for inodes, may not know the numbers. They refuse the call, or report 0 blocks or 0 inodes in total.
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

    /// Whether no more files can be created although more than 64 KiB are free.
    var isOutOfInodes: Bool { files == 0 && (bytes ?? 0) > 1 << 16 }
}
