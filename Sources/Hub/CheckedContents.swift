// Checks which contents of the cache are what their names say. In a cache that others may write to, a name and a size prove
// nothing: a content that this process has not written is hashed once. The result is remembered together with what the file
// system says of the file.

import Files
import Glibc
import Logging
import Synchronization

/// Tells which files of a cache have the content that they should have, and remembers the results.
final class CheckedContents: Sendable {
    /// One version of one file: device, inode, size, and the times of the last changes. A file with another content has another
    /// version.
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

    /// Starts checks of the cache at `root`. `folder` is where this user's processes remember what they have hashed; nil if they
    /// remember nothing.
    init(ofCacheAt root: String, rememberingIn folder: String?, log: Logger) {
        writers = CacheWriters(root: root)
        memory = folder.map { ContentMemory(folder: $0) }
        self.log = log
    }

    /// Bytes from which on hashing takes so long that a log line announces it.
    private static let large = 100 << 20

    /// Whether the file at `path`, or the file that a link there leads to, has the size and the content of `file`. If only this
    /// user and root can have written it, the size is enough: the content was hashed when it was downloaded. With
    /// `trustingNobody` the file is hashed in any case.
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
        // The file has changed during the hashing. The next call hashes it again.
        var after = stat()
        guard stat(path, &after) == 0, Version(after) == key.version else { return false }
        // A change in the next moment may get the same time stamp, if the file system's times are coarse. So a file that others
        // can write to is remembered only if its last change is more than 2 seconds old.
        let isSettled = !writers.isOpen(after) || time(nil) - after.st_ctim.tv_sec > 2
        if isWhole, isSettled { memory?.add(key.digest, key.version) }
        if known.withLock({ $0.updateValue(isWhole, forKey: key) }) == nil, !isWhole,
            !trustingNobody
        {
            log.warning(
                "\(path): is not what its name says: its digest is not \(key.digest); it counts as missing"
            )
        }
        return isWhole
    }

    /// Stored in the memory in place of a digest, for files that this user's processes have written themselves.
    private static let own = "own"

    /// Whether the file at `path` is what a process of this user has written there. True if nobody else can write there.
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

    /// Remembers that the open file has the content of `file`: this process has written it and hashed what it wrote. `finished`
    /// is the file's status after the last write. Remembers nothing if the file was written to since.
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

/// The group that has this user's name and no other members, as many systems create one for each user; nil if there is none.
private let ownGroup: gid_t? = {
    guard let user = getpwuid(geteuid()), let group = getgrgid(user.pointee.pw_gid),
        strcmp(user.pointee.pw_name, group.pointee.gr_name) == 0,
        group.pointee.gr_mem.pointee == nil
    else { return nil }
    return group.pointee.gr_gid
}()

/// Tells who may write to files of a cache, as far as owners and modes say. Access control lists (ACLs) show in the group's bits.
private final class CacheWriters: Sendable {
    private let root: String
    private let folders = Mutex<[String: Bool]>([:])

    init(root: String) { self.root = root }

    /// Whether anybody other than this user and root may have written the file that `path` leads to, or put it there. True if
    /// there is no file.
    func othersCanWrite(_ path: String) -> Bool {
        guard let real = realpath(path, nil) else { return true }
        defer { free(real) }
        let target = String(cString: real)
        var info = stat()
        guard stat(target, &info) == 0, !isOpen(info) else { return true }
        // The folders above the path as given, and above the path without links.
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
            // In a folder with the sticky bit, such as /tmp, nobody can replace what belongs to others. So such a folder is safe
            // above the cache, but not inside the cache, where others could add links.
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

    /// Whether anybody other than this user and root may write to the file or folder.
    func isOpen(_ info: stat) -> Bool {
        if ![0, geteuid()].contains(info.st_uid) { return true }
        let isGroups =
            info.st_mode & S_IWGRP != 0 && info.st_gid != 0 && info.st_gid != ownGroup
        return isGroups || info.st_mode & S_IWOTH != 0
    }
}

/// Remembers what this user's processes have hashed, in a file that belongs to the user: one line for each content, with its
/// digest and its version.
private final class ContentMemory: Sendable {
    private let folder: String
    private let lines: Mutex<Set<String>>

    private static let name = "hashed-contents"
    /// Most bytes of the file. A file that would become longer is emptied first. A line has about 150 bytes.
    private static let limit = 4 << 20

    /// Reads the file, if nobody else can have written it.
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

    /// Adds a line. If it cannot be stored, a later process hashes the content again.
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
        // In one `write`, because other processes add lines too.
        let text = Array((line + "\n").utf8)
        _ = write(file, text, text.count)
    }

    /// Creates the folder, for this user alone. Returns whether it exists.
    private func makeFolder() -> Bool {
        (try? makeDirectories(parentFolder(of: folder))) != nil
            && (mkdir(folder, 0o700) == 0 || errno == EEXIST)
    }

    /// Opens the file in the folder `path`. Nil if the file does not exist, or if others can write to the file or its folder.
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
