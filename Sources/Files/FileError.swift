// The error of a file operation, and functions that ask the system about a path.

import Glibc

/// A failed file operation: the system refused it, or this program refused to use the entry at the path.
public struct FileError: Error, Equatable, CustomStringConvertible {
    /// The path of the file or folder, as given.
    public let path: String
    /// The operation that failed: "open", "write", "rename", …
    public let operation: String
    /// The system's error number.
    public let code: Int32
    /// The target of the symlink at `path`. Nil if the target exists or `path` is not a symlink.
    private let danglingTarget: String?
    /// If `path` has an entry of the wrong kind: what the entry is and what this program expected.
    private let mismatch: Mismatch?

    private struct Mismatch: Equatable {
        let found: String
        let expected: String
        var advice =
            "another user or program has put it there: look at it (ls -l), remove it, and run the same command again"
    }

    /// Makes the error of a failed `operation` on `path`. `code` is `errno` unless given.
    public init(_ operation: String, _ path: String, code: Int32 = errno) {
        self.operation = operation
        self.path = path
        self.code = code
        danglingTarget = [ENOENT, ELOOP].contains(code) ? danglingLinkTarget(path) : nil
        mismatch = nil
    }

    /// Makes the error for an entry of the wrong type. The entry at `path` is `entry`. It should be `expected`, such
    /// as "a file", and made by this program itself.
    public init(_ path: String, isA entry: Entry, expected: String) {
        (self.path, operation, code, danglingTarget) = (path, "use", EPERM, nil)
        let target = entry == .link ? linkTarget(path).map { " to \($0)" } ?? "" : ""
        mismatch = Mismatch(
            found: entry.rawValue + target, expected: "\(expected) that this program has made")
    }

    /// Makes the error for a symlink at `path` that `user` owns. At this path, the program follows only symlinks of
    /// root and of the user who runs it.
    public init(_ path: String, isALinkOfUser user: Int) {
        (self.path, operation, code, danglingTarget) = (path, "use", EPERM, nil)
        mismatch = Mismatch(
            found: "a link\(linkTarget(path).map { " to \($0)" } ?? "") that user \(user) has made",
            expected: "a folder, or a link whose owner is you or root",
            advice:
                "remove the link and put the folder itself there, or make yourself or root the owner of the link (as root: chown -h USER \(path))"
        )
    }

    /// The type of an entry of a folder.
    public enum Entry: String, Sendable {
        case file = "a file"
        case folder = "a folder"
        case link = "a link"
        case pipe = "a pipe (FIFO)"
        case socket = "a socket"
        case device = "a device"

        /// Reads the type from `st_mode`. Any unknown type counts as a device.
        public init(_ mode: mode_t) {
            switch mode & S_IFMT {
            case S_IFREG: self = .file
            case S_IFDIR: self = .folder
            case S_IFLNK: self = .link
            case S_IFIFO: self = .pipe
            case S_IFSOCK: self = .socket
            default: self = .device
            }
        }
    }

    /// What failed, at which path, why, and the next step.
    public var description: String {
        if let mismatch { return "\(cause); \(mismatch.advice)" }
        return danglingTarget.map { "cannot \(operation) \(path): \(danglingLinkSentence($0))" }
            ?? "\(cause); \(nextStep)"
    }

    /// What failed, at which path and why, without the next step.
    public var cause: String {
        guard let mismatch else {
            return "cannot \(operation) \(path): \(String(cString: strerror(code)))"
        }
        return
            "cannot use \(path): it is \(mismatch.found), expected \(mismatch.expected)"
    }

    private var nextStep: String {
        switch code {
        case ENOENT where operation == "create a file in":
            "another process has removed the folder, for example a run with --overwrite: make sure that no other run uses it, and run the same command again"
        case ENOENT, ENOTDIR: "check the spelling of the path and that it exists on this machine"
        case EACCES, EPERM, EROFS: "check the permissions of the file and of the folders above it"
        case EISDIR: "give a file, not a folder"
        case ENOSPC where FreeSpace(at: path).isOutOfInodes:
            "its file system has free space, but no inodes are left (df -i shows them): remove files there, and run the same command again"
        case EDQUOT:
            "a quota for space or for files is used up (quota -s shows both): remove files or ask for a higher quota, and run the same command again"
        case ENOSPC, EFBIG:
            "free some space (or raise the quota or file size limit) and run the same command again"
        case EMFILE, ENFILE: "raise the limit on open files (ulimit -n)"
        case ENAMETOOLONG: "choose a shorter path"
        case ENOMEM:
            "raise the memory limit (ulimit -v, or the job's memory), or run on a machine with more memory"
        case ENODATA where operation == "read":
            "the file became shorter while it was read: wait until no program writes to it, then run the same command again"
        case EINVAL where operation == "read": "give a regular file"
        case EINVAL where operation.hasPrefix("create") || operation == "rename", EILSEQ:
            "its file system may not allow a character of the name; give another name, or a path on another file system"
        default: "check the disk and the file system, then run the same command again"
        }
    }
}

/// Returns whether an entry exists at `path`. False for a symlink whose target does not exist.
public func fileExists(_ path: String) -> Bool {
    access(path, F_OK) == 0
}

/// Returns whether an entry exists at `path`. True also for a symlink whose target does not exist, so that opening it
/// reports the missing target.
public func isListed(_ path: String) -> Bool {
    var info = stat()
    return lstat(path, &info) == 0
}

/// Returns the target of the symlink at `path` if the target does not exist. Nil in all other cases.
public func danglingLinkTarget(_ path: String) -> String? {
    var info = stat()
    guard lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFLNK, stat(path, &info) != 0,
        [ENOENT, ENOTDIR, ELOOP].contains(errno)
    else { return nil }
    return linkTarget(path)
}

/// Returns the target that the symlink at `path` stores. Nil if `path` is not a symlink.
public func linkTarget(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = buffer.withUnsafeMutableBytes {
        readlink(path, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
}

/// Returns the part of a message about a symlink whose `target` does not exist: the problem and the next step.
public func danglingLinkSentence(_ target: String) -> String {
    "is a link to \(target), which does not exist; copy the files again with cp -rL (it follows links), or download them again"
}

/// Returns the size of the regular file at `path` in bytes; 0 if no such file exists.
public func fileSize(_ path: String) -> Int {
    var info = stat()
    return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFREG ? Int(info.st_size) : 0
}

/// Returns whether a folder exists at `path`.
public func isDirectory(_ path: String) -> Bool {
    var info = stat()
    return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
}

/// Returns the names in the folder at `path` that end in `ending`, sorted by bytes, without "." and "..". Throws
/// `FileError`.
public func directoryContents(
    _ path: String, endingIn ending: String = ""
) throws(FileError) -> [String] {
    guard let directory = opendir(path) else { throw FileError("list", path) }
    defer { closedir(directory) }
    return try entryNames(of: directory, path, endingIn: ending)
}

/// Returns the names in the open folder `directory` that end in `ending`, sorted by bytes, without "." and "..".
/// `path` names the folder in errors.
func entryNames(
    of directory: OpaquePointer, _ path: String, endingIn ending: String
) throws(FileError) -> [String] {
    var names: [String] = []
    errno = 0
    while let entry = readdir(directory) {
        withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { name in
                let rest = strlen(name) - ending.utf8.count
                // A folder can have thousands of names of which few match. So only the matching names become strings.
                guard rest >= 0, strcmp(name + rest, ending) == 0, strcmp(name, ".") != 0,
                    strcmp(name, "..") != 0
                else { return }
                names.append(String(cString: name))
            }
        }
        errno = 0
    }
    guard errno == 0 else { throw FileError("list", path) }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
}

/// Returns whether this process may read the entry at `path`.
public func isReadable(_ path: String) -> Bool {
    access(path, R_OK) == 0
}

/// Returns the parts of `path` between the slashes, empty parts included. Splits the Unicode scalars, because Swift
/// combines a slash and a combining mark after it into one `Character`.
public func pathSteps(_ path: String) -> [String] {
    path.unicodeScalars.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
}

/// Returns the path of the folder that contains `path`. Empty if `path` has no slash, or only one at its start.
public func parentFolder(of path: String) -> String {
    path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[..<$0]) } ?? ""
}

/// Creates the folder at `path` and the folders above it, unless they exist. Throws `FileError`.
public func makeDirectories(_ path: String) throws(FileError) {
    if isDirectory(path) || path.isEmpty { return }
    let parent = parentFolder(of: path)
    try makeDirectories(parent)
    if mkdir(path, 0o777) == 0 {
        try synchronizeDirectory(parent.isEmpty ? (path.hasPrefix("/") ? "/" : ".") : parent)
    } else if errno != EEXIST {
        throw FileError("create", path)
    }
    guard isDirectory(path) else { throw FileError("create", path, code: ENOTDIR) }
}
