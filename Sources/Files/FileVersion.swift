// Whether a file that is in use is still what it was when it was looked at first.

import Glibc

/// A file, and which version of it was seen: its size, and when its content was changed last. Not its number on the file
/// system, which some in user space give anew each time.
public struct FileVersion: Codable, Equatable, Sendable {
    /// The path as given.
    public let path: String
    private let size: Int
    private let seconds: Int
    private let nanoseconds: Int

    /// What `fstat` says of the open file at `path`.
    init(path: String, _ info: stat) {
        self.path = path
        size = Int(info.st_size)
        (seconds, nanoseconds) = (info.st_mtim.tv_sec, info.st_mtim.tv_nsec)
    }
}

/// A file was changed, or another one was put in its place, while it was in use.
public struct ChangedFileError: Error, Equatable, CustomStringConvertible {
    /// The file.
    public let path: String

    /// What happened and what to do.
    public var description: String {
        "\(path): was changed while this run used it: what was computed before is kept, and nothing counts that was computed since; see who writes to it (a download, a copy), and run the same command again once it is whole"
    }
}

/// Files that a process uses for long, as they lie on the disk. Each stays open, so that it is the very file whose state is
/// asked for.
public final class FileWatch: Sendable {
    private let files: [(version: FileVersion, descriptor: Int32)]

    /// Watches files of these versions. Throws `ChangedFileError` where one is another already, and `FileError`.
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

    /// Fails where one of the files has changed. Throws `ChangedFileError`.
    public func check() throws(ChangedFileError) {
        for (version, descriptor) in files {
            var info = stat()
            guard fstat(descriptor, &info) == 0,
                FileVersion(path: version.path, info) == version
            else { throw ChangedFileError(path: version.path) }
        }
    }
}
