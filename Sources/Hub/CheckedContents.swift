// Checks that contents in the cache match their digests. If other users may write to the cache, a file's name and
// size prove nothing. Then a process hashes every file that it has not written itself, and stores the result with the
// file's version. A later process hashes the file again only if the version has changed.

import Files
import Glibc
import Logging
import Synchronization

/// Tells which files of a cache have the expected content, and remembers the results.
final class CheckedContents: Sendable {
    /// The version of a file: device, inode, size, and the times of the last changes. If the content changes, the
    /// version changes.
    struct Version: Hashable {
        private let numbers: [Int]

        init(_ info: stat) {
            numbers = [
                Int(truncatingIfNeeded: info.st_dev), Int(truncatingIfNeeded: info.st_ino),
                Int(info.st_size), info.st_mtim.tv_sec, info.st_mtim.tv_nsec,
                info.st_ctim.tv_sec, info.st_ctim.tv_nsec,
            ]
        }

        /// The numbers, separated by spaces.
        var text: String { numbers.map(String.init).joined(separator: " ") }
    }

    private struct Key: Hashable {
        let digest: String
        let version: Version
    }

    private let known = Mutex<[Key: Bool]>([:])
    private let writers: CacheWriters
    private let memory: ContentMemory?
    private let log: Logger

    /// Creates a checker for the cache at `root`. This user's processes share the results of hashing in `folder`. If
    /// `folder` is nil, no results are stored.
    init(ofCacheAt root: String, rememberingIn folder: String?, log: Logger) {
        writers = CacheWriters(root: root)
        memory = folder.map { ContentMemory(folder: $0) }
        self.log = log
    }

    /// The size in bytes from which a log line announces the hashing, because the hashing takes long.
    private static let large = 100 << 20

    /// Whether the file at `path` has the size and the content of `file`. Follows symlinks. Checks only the size if
    /// no user except this user and root can write to the file. With `trustingNobody`, always checks the content too.
    func isWhole(_ path: String, _ file: RepositoryFile, trustingNobody: Bool = false) -> Bool {
        var info = stat()
        guard stat(path, &info) == 0, info.st_mode & S_IFMT == S_IFREG,
            Int(info.st_size) == file.size
        else { return false }
        guard trustingNobody || writers.othersCanWrite(path) else { return true }
        let key = Key(digest: file.digest.name, version: Version(info))
        if let isWhole = known.withLock({ $0[key] }) { return isWhole }
        if memory?.has(key.digest, key.version) == true {
            known.withLock { $0[key] = true }
            return true
        }
        if file.size >= CheckedContents.large {
            log.info(
                "\(path): hashing \(file.size) bytes once, to check the content")
        }
        let isWhole = ContentHash.proof(that: path, is: file) != nil
        // If the file has changed during the hashing, the result is false, and the next call hashes the file again.
        var after = stat()
        guard stat(path, &after) == 0, Version(after) == key.version else { return false }
        // On a file system with coarse times, a change directly after this check may keep the file's times. So if
        // other users may write to the file, the result is stored only if the last change is more than 2 seconds old.
        let isSettled = !writers.isOpen(after) || time(nil) - after.st_ctim.tv_sec > 2
        if isWhole, isSettled { memory?.add(key.digest, key.version) }
        if known.withLock({ $0.updateValue(isWhole, forKey: key) }) == nil, !isWhole,
            !trustingNobody
        {
            log.warning(
                "\(path): the content does not have the digest \(key.digest); the file counts as missing"
            )
        }
        return isWhole
    }

    /// Stored in `ContentMemory` in place of a digest, for files that this user's processes have written themselves.
    private static let own = "own"

    /// Whether this user has written the file at `path`. True if no other user can write to the file, or if `noteOwn`
    /// has recorded the file's current version.
    func isOwn(_ path: String) -> Bool {
        guard writers.othersCanWrite(path) else { return true }
        var info = stat()
        return stat(path, &info) == 0
            && memory?.has(CheckedContents.own, Version(info)) == true
    }

    /// Remembers that this process has just written the file at `path`.
    func noteOwn(_ path: String) {
        var info = stat()
        guard writers.othersCanWrite(path), stat(path, &info) == 0 else { return }
        memory?.add(CheckedContents.own, Version(info))
    }

    /// Remembers that the open file has the content of `file`, because this process has written and hashed it.
    /// `finished` is the file's status after the last write. Remembers nothing if the file has changed since.
    func trust(_ descriptor: Int32, as finished: stat, _ file: RepositoryFile) {
        var info = stat()
        guard fstat(descriptor, &info) == 0, info.st_size == finished.st_size,
            info.st_mtim.tv_sec == finished.st_mtim.tv_sec,
            info.st_mtim.tv_nsec == finished.st_mtim.tv_nsec
        else { return }
        let key = Key(digest: file.digest.name, version: Version(info))
        known.withLock { $0[key] = true }
    }
}

/// The id of this user's private group: a group with the user's name and no other members. Many systems create one
/// for each user. Nil if none exists.
private let ownGroup: gid_t? = {
    guard let user = getpwuid(geteuid()), let group = getgrgid(user.pointee.pw_gid),
        strcmp(user.pointee.pw_name, group.pointee.gr_name) == 0,
        group.pointee.gr_mem.pointee == nil
    else { return nil }
    return group.pointee.gr_gid
}()

/// Tells whether other users may write to files of a cache, judged by owners and permissions. Write permissions from
/// an access control list (ACL) show as permissions of the group. They are not noticed if the group is root's or this
/// user's private group.
private final class CacheWriters: Sendable {
    private let root: String
    private let folders = Mutex<[String: Bool]>([:])

    init(root: String) { self.root = root }

    /// Whether a user other than this user and root can write to the file at `path`, or can replace it or a folder
    /// above it. Follows symlinks. True if the file does not exist.
    func othersCanWrite(_ path: String) -> Bool {
        guard let real = realpath(path, nil) else { return true }
        defer { free(real) }
        let target = String(cString: real)
        var info = stat()
        guard stat(target, &info) == 0, !isOpen(info) else { return true }
        // Checks the folders above `path`, and the folders above the real path without symlinks.
        return [path, target].contains {
            folderIsOpen(parentFolder(of: $0), isAbsolute: $0.hasPrefix("/"))
        }
    }

    private func folderIsOpen(_ path: String, isAbsolute: Bool) -> Bool {
        let place = path.isEmpty ? (isAbsolute ? "/" : ".") : path
        if let known = folders.withLock({ $0[place] }) { return known }
        var info = stat()
        var answer = true
        if stat(place, &info) == 0 {
            // In a folder with the sticky bit, such as /tmp, users cannot replace the entries of other users. So such
            // a folder is safe if it is above the cache. Inside the cache it is not safe, because other users could
            // add symlinks.
            let isAbove = root.hasPrefix(place == "/" ? "/" : place + "/")
            answer =
                isOpen(info)
                && !(isAbove && info.st_mode & S_ISVTX != 0
                    && [0, geteuid()].contains(info.st_uid))
            if !answer, place != "/", place != "." {
                answer = folderIsOpen(parentFolder(of: place), isAbsolute: isAbsolute)
            }
        }
        return folders.withLock {
            $0[place] = answer
            return answer
        }
    }

    /// Whether a user other than this user and root may write to the file or folder with the status `info`.
    func isOpen(_ info: stat) -> Bool {
        if ![0, geteuid()].contains(info.st_uid) { return true }
        let isGroups =
            info.st_mode & S_IWGRP != 0 && info.st_gid != 0 && info.st_gid != ownGroup
        return isGroups || info.st_mode & S_IWOTH != 0
    }
}

/// Stores which files this user's processes have hashed. The store is a file of this user. It has one line for each
/// hashed file, with the digest of the content and the version of the file.
private final class ContentMemory: Sendable {
    private let folder: String
    private let lines: Mutex<Set<String>>

    private static let name = "hashed-contents"
    /// The maximum size of the store in bytes. An almost full store is emptied before the next line is added.
    private static let limit = 4 << 20

    /// Reads the file, unless another user can have written it.
    init(folder: String) {
        self.folder = folder
        guard let file = ContentMemory.open(folder, O_RDONLY) else {
            lines = Mutex([])
            return
        }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: ContentMemory.limit)
        var count = 0
        while count < bytes.count {
            let more = bytes.withUnsafeMutableBytes {
                read(file, $0.baseAddress! + count, $0.count - count)
            }
            if more < 0, errno == EINTR { continue }
            guard more > 0 else { break }
            count += more
        }
        let text = String(decoding: bytes[..<count], as: UTF8.self)
        lines = Mutex(Set(text.split(separator: "\n").map(String.init)))
    }

    private static func line(_ digest: String, _ version: CheckedContents.Version) -> String {
        "\(digest) \(version.text)"
    }

    func has(_ digest: String, _ version: CheckedContents.Version) -> Bool {
        lines.withLock { $0.contains(ContentMemory.line(digest, version)) }
    }

    /// Appends a line to the file. If the line cannot be stored, a later process hashes the content again.
    func add(_ digest: String, _ version: CheckedContents.Version) {
        let line = ContentMemory.line(digest, version)
        guard lines.withLock({ $0.insert(line).inserted }), makeFolder(),
            let file = ContentMemory.open(folder, O_WRONLY | O_CREAT | O_APPEND)
        else { return }
        defer { close(file) }
        var info = stat()
        if fstat(file, &info) == 0, Int(info.st_size) > ContentMemory.limit - 1024 {
            ftruncate(file, 0)
        }
        // A single `write` appends the whole line, because other processes append to the file too.
        let text = Array((line + "\n").utf8)
        _ = write(file, text, text.count)
    }

    /// Creates the folder with permissions for this user only. Returns whether the folder exists.
    private func makeFolder() -> Bool {
        (try? makeDirectories(parentFolder(of: folder))) != nil
            && (mkdir(folder, 0o700) == 0 || errno == EEXIST)
    }

    /// Opens the file `hashed-contents` in the folder `path`. Nil if it does not exist, or if other users may write
    /// to it or to its folder.
    private static func open(_ path: String, _ flags: Int32) -> Int32? {
        func isOwn(_ info: stat) -> Bool {
            info.st_uid == geteuid() && info.st_mode & S_IWOTH == 0
                && (info.st_mode & S_IWGRP == 0 || info.st_gid == ownGroup)
        }
        var info = stat()
        guard stat(path, &info) == 0, isOwn(info), let folder = try? Folder(path),
            let file = try? folder.open(name, flags, mode: 0o600)
        else { return nil }
        guard fstat(file, &info) == 0, isOwn(info) else {
            close(file)
            return nil
        }
        return file
    }
}
