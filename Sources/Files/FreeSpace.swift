// How much more a file system takes.

import Glibc

/// What this user may still write to a file system, as far as it says.
public struct FreeSpace: Equatable, Sendable {
    /// Bytes; nil where it is not known.
    public let bytes: Int?
    /// Files (inodes); nil where it is not known, or where there is no limit.
    public let files: Int?

    /// Of the file system of `path`, or of the nearest folder above it that exists. Mounts in user space and over a
    /// network, and btrfs for inodes, may have no number to give: they refuse the call, or say that they consist of 0
    /// blocks or 0 inodes.
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

    /// Whether no more files can be made although there is room for what would be in them.
    var isOutOfInodes: Bool { files == 0 && (bytes ?? 0) > 1 << 16 }
}
