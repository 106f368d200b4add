// Errors of file operations, and questions to the system about paths.

import Glibc

/// A file operation that the system refused, or that this program refused because of what exists at the path.
public struct FileError: Error, Equatable, CustomStringConvertible {
    /// The path of the file or folder, as given.
    public let path: String
    /// The operation that failed: "open", "write", "rename", …
    public let operation: String
    /// The system's error number.
    public let code: Int32
    /// The target of the link at `path`, if the target does not exist.
    private let danglingTarget: String?
    /// What exists at `path` in place of what belongs there.
    private let mismatch: Mismatch?

    private struct Mismatch: Equatable {
        let found: String
        let expected: String
        var advice =
            "somebody else has put it there: see what it is, remove it, and run the same command again"
    }

    /// Makes the error of a failed `operation` on `path`; `code` is `errno` unless given.
    public init(_ operation: String, _ path: String, code: Int32 = errno) {
        self.operation = operation
        self.path = path
        self.code = code
        danglingTarget = [ENOENT, ELOOP].contains(code) ? danglingLinkTarget(path) : nil
        mismatch = nil
    }

    /// Makes the error for an `entry` that somebody else has put at `path`, where `expected` belongs: in a folder of this program
    /// or of results.
    public init(_ path: String, isA entry: Entry, expected: String) {
        (self.path, operation, code, danglingTarget) = (path, "use", EPERM, nil)
        let target = entry == .link ? linkTarget(path).map { " to \($0)" } ?? "" : ""
        mismatch = Mismatch(
            found: entry.rawValue + target, expected: "\(expected) of this program's own")
    }

    /// Makes the error for a link at `path` that belongs to `user`, in a place where the program follows only links that nobody
    /// but its own user or root can have made.
    public init(_ path: String, isALinkOfUser user: Int) {
        (self.path, operation, code, danglingTarget) = (path, "use", EPERM, nil)
        mismatch = Mismatch(
            found: "a link\(linkTarget(path).map { " to \($0)" } ?? "") that user \(user) has made",
            expected: "a folder, or a link that you or root have made,",
            advice:
                "make root or yourself its owner (chown -h keeps its target), or give the folder that it leads to"
        )
    }

    /// What an entry of a folder is.
    public enum Entry: String, Sendable {
        case file = "a file"
        case folder = "a folder"
        case link = "a link"
        case pipe = "a pipe (FIFO)"
        case socket = "a socket"
        case device = "a device"

        /// Reads the type from `st_mode`; every other type counts as a device.
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

    /// What failed, where, why, and the next step.
    public var description: String {
        if let mismatch { return "\(cause); \(mismatch.advice)" }
        return danglingTarget.map { "cannot \(operation) \(path): \(danglingLinkSentence($0))" }
            ?? "\(cause); \(nextStep)"
    }

    /// What failed, where and why.
    public var cause: String {
        guard let mismatch else {
            return "cannot \(operation) \(path): \(String(cString: strerror(code)))"
        }
        return
            "cannot use \(path): it is \(mismatch.found), and \(mismatch.expected) belongs there"
    }

    private var nextStep: String {
        switch code {
        case ENOENT where operation == "create a file in":
            "the folder was removed meanwhile, as a run with --overwrite does: make sure that no other run uses it, and run the same command again"
        case ENOENT, ENOTDIR: "check the spelling of the path and that it exists on this machine"
        case EACCES, EPERM, EROFS: "check the permissions of the file and of the folders above it"
        case EISDIR: "give a file, not a folder"
        case ENOSPC where FreeSpace(at: path).isOutOfInodes:
            "no inodes are left on its file system, though there is space: remove files there (df -i tells how many are left), and run the same command again"
        case EDQUOT:
            "a quota of space or of files is used up (quota -s shows both): remove files or have it raised, and run the same command again"
        case ENOSPC, EFBIG:
            "free some space (or raise the quota or file size limit) and run the same command again"
        case EMFILE, ENFILE: "raise the limit on open files (ulimit -n)"
        case ENAMETOOLONG: "choose a shorter path"
        case ENOMEM:
            "raise the limit on memory (ulimit -v, or the job's), or run on a machine that has more"
        case ENODATA where operation == "read":
            "the file became shorter while it was read: see that nobody writes to it, then run the same command again"
        case EINVAL where operation == "read": "give a regular file"
        case EINVAL where operation.hasPrefix("create") || operation == "rename", EILSEQ:
            "its file system may refuse a character of the name; give another name, or a path on another file system"
        default: "check the disk and the file system, then run the same command again"
        }
    }
}

/// Returns whether an entry exists at `path`. False for a link whose target does not exist.
public func fileExists(_ path: String) -> Bool {
    access(path, F_OK) == 0
}

/// Returns whether the parent folder has an entry for `path`. True also for a link whose target does not exist: opening such a
/// link reports the target.
public func isListed(_ path: String) -> Bool {
    var info = stat()
    return lstat(path, &info) == 0
}

/// Returns the target of the link at `path` if the target does not exist. Nil otherwise.
public func danglingLinkTarget(_ path: String) -> String? {
    var info = stat()
    guard lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFLNK, stat(path, &info) != 0,
        [ENOENT, ENOTDIR, ELOOP].contains(errno)
    else { return nil }
    return linkTarget(path)
}

/// Returns the target of the link at `path`, as the link says it. Nil if `path` is not a link.
public func linkTarget(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = buffer.withUnsafeMutableBytes {
        readlink(path, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
}

/// Returns what is wrong with a link whose `target` does not exist, and the next step.
public func danglingLinkSentence(_ target: String) -> String {
    "is a link to \(target), which is not there; copy what links lead to (cp -rL), or download it again"
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

/// Returns the names in the folder at `path` that end in `ending`, sorted by bytes, without "." and "..". Throws `FileError`.
public func directoryContents(
    _ path: String, endingIn ending: String = ""
) throws(FileError) -> [String] {
    guard let directory = opendir(path) else { throw FileError("list", path) }
    defer { closedir(directory) }
    return try entryNames(of: directory, path, endingIn: ending)
}

/// Returns the names in the open folder that end in `ending`, sorted by bytes, without "." and "..". `path` names the folder in
/// errors.
func entryNames(
    of directory: OpaquePointer, _ path: String, endingIn ending: String
) throws(FileError) -> [String] {
    var names: [String] = []
    errno = 0
    while let entry = readdir(directory) {
        withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { name in
                let rest = strlen(name) - ending.utf8.count
                // Few of thousands of names may match. Only the matching names become strings.
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

/// Returns the names between the slashes of `path`, also empty ones. Splits by scalars: a slash and a combining mark after it are
/// one `Character`, but the system takes the slash as a separator.
public func pathSteps(_ path: String) -> [String] {
    path.unicodeScalars.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
}

/// Returns the path of the folder that contains `path`. Empty for a name alone, and for an entry of the root folder.
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
