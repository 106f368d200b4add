// Detects that an input file was changed or replaced while a run used it.

import Glibc

/// A path, and the version of the file at that path: its size and the time of its last change of content. Inode
/// numbers are not compared, because some FUSE file systems return a new number for each call.
public struct FileVersion: Codable, Equatable, Sendable {
    /// The path as given.
    public let path: String
    private let size: Int
    private let seconds: Int
    private let nanoseconds: Int

    /// Makes the version from `info`, which `fstat` reported for the open file at `path`.
    init(path: String, _ info: stat) {
        self.path = path
        size = Int(info.st_size)
        (seconds, nanoseconds) = (info.st_mtim.tv_sec, info.st_mtim.tv_nsec)
    }
}

/// The error for a file that was changed or replaced while it was in use.
public struct ChangedFileError: Error, Equatable, CustomStringConvertible {
    /// The path of the file.
    public let path: String

    /// What happened and the next step.
    public var description: String {
        "\(path): was changed while this run used it: results from before the change are kept, later results are discarded; find out what writes to the file (a download, a copy), and run the same command again when the file is complete"
    }
}

/// Detects changes of files that a process uses for a long time. It keeps each file open, so that `check` examines
/// the opened file, even if another file is at the same path later.
public final class FileWatch: Sendable {
    private let files: [(version: FileVersion, descriptor: Int32)]

    /// Opens the files of `versions`. Throws `ChangedFileError` if a file no longer has the given version, and
    /// `FileError` if a file cannot be opened.
    public init(_ versions: [FileVersion]) throws {
        var files: [(version: FileVersion, descriptor: Int32)] = []
        do {
            for version in versions {
                let descriptor = open(version.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
                guard descriptor >= 0 else { throw FileError("open", version.path) }
                files.append((version, descriptor))
            }
            self.files = files
            try check()
        } catch {
            for file in files { close(file.descriptor) }
            throw error
        }
    }

    deinit { for file in files { close(file.descriptor) } }

    /// Throws `ChangedFileError` if one of the files has changed.
    public func check() throws(ChangedFileError) {
        for (version, descriptor) in files {
            var info = stat()
            guard fstat(descriptor, &info) == 0,
                FileVersion(path: version.path, info) == version
            else { throw ChangedFileError(path: version.path) }
        }
    }
}
