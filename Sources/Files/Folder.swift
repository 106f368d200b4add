// Folders that other users may write to, accessed by handle. Each entry is reached from the handle by its name and never through
// a link. So a link or a pipe that somebody puts there cannot lead this program to other files (CWE-59).

import Glibc

/// Opens a handle to an entry without access to its content. Swift does not import the macro (fcntl.h, asm-generic).
private let O_PATH: Int32 = 0o10_000_000

/// An open folder. The names of its entries are relative to it and contain no `/`.
public final class Folder: Sendable {
    /// The path of the folder, for errors.
    public let path: String
    /// Opened with `O_PATH`, so that a folder that may not be listed can still be entered.
    private let descriptor: Int32

    /// The deepest nesting that `removeTree` removes. The program's own folders are never nested so deep.
    private static let maximumDepth = 64

    private init(path: String, descriptor: Int32) {
        (self.path, self.descriptor) = (path, descriptor)
    }

    deinit { close(descriptor) }

    /// Opens the folder at `path`, which the user has given. Follows links in `path`: they are the user's own. Throws
    /// `FileError`.
    public convenience init(_ path: String) throws(FileError) {
        let name = path.isEmpty ? "." : path
        let descriptor = Glibc.open(name, O_PATH | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError("open", name) }
        self.init(path: path, descriptor: descriptor)
    }

    /// Returns the path of the entry called `name`, for messages.
    public func path(of name: String) -> String {
        path.isEmpty || path.utf8.last == UInt8(ascii: "/") ? path + name : "\(path)/\(name)"
    }

    /// Returns the status of the entry called `name`; for a link, the status of the link. Nil if the entry does not exist. Throws
    /// `FileError`.
    public func status(of name: String) throws(FileError) -> stat? {
        var info = stat()
        guard fstatat(descriptor, name, &info, AT_SYMLINK_NOFOLLOW) != 0 else { return info }
        guard errno == ENOENT else { throw FileError("examine", path(of: name)) }
        return nil
    }

    /// Returns whether the entry called `name` is a regular file; a link to a file is not one. Throws `FileError`.
    public func isFile(_ name: String) throws(FileError) -> Bool {
        try status(of: name).map { $0.st_mode & S_IFMT == S_IFREG } ?? false
    }

    /// Opens the folder called `name`. Nil if the entry does not exist. Throws `FileError`, also if the entry is a link.
    public func folder(_ name: String) throws(FileError) -> Folder? {
        let path = path(of: name)
        let folder = openat(descriptor, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard folder < 0 else { return Folder(path: path, descriptor: folder) }
        let code = errno
        if code == ENOENT { return nil }
        try refuse(name, expected: "a folder")
        throw FileError("open", path, code: code)
    }

    /// Opens the folder called `name`, or the folder that a link of that name leads to if this user or root owns the link: nobody
    /// else can make a link with such an owner. Nil if the entry does not exist. Throws `FileError`, also for a link of another
    /// user.
    public func folderOrOwnLink(_ name: String) throws(FileError) -> Folder? {
        // The handle is of the link itself: the link that is followed is the one that was checked, even if somebody replaces it.
        let link = openat(descriptor, name, O_PATH | O_NOFOLLOW | O_CLOEXEC)
        guard link >= 0 else {
            if errno == ENOENT { return nil }
            throw FileError("open", path(of: name))
        }
        defer { close(link) }
        var info = stat()
        guard fstat(link, &info) == 0, info.st_mode & S_IFMT == S_IFLNK else {
            return try folder(name)
        }
        guard [geteuid(), 0].contains(info.st_uid) else {
            throw FileError(path(of: name), isALinkOfUser: Int(info.st_uid))
        }
        var target = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        guard readlinkat(link, "", &target, Int(PATH_MAX)) > 0 else {
            throw FileError("open", path(of: name))
        }
        let folder = openat(descriptor, target, O_PATH | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw FileError("open", path(of: name)) }
        return Folder(path: path(of: name), descriptor: folder)
    }

    /// Opens the folder called `name`, and creates it if it does not exist. With `orOwnLink`, follows a link as `folderOrOwnLink`
    /// does. Throws `FileError`.
    public func makeFolder(_ name: String, orOwnLink: Bool = false) throws(FileError) -> Folder {
        func existing() throws(FileError) -> Folder? {
            orOwnLink ? try folderOrOwnLink(name) : try folder(name)
        }
        if let folder = try existing() { return folder }
        if mkdirat(descriptor, name, 0o777) == 0 {
            try synchronize()
        } else if errno != EEXIST {
            throw FileError("create", path(of: name))
        }
        guard let folder = try existing() else {
            throw FileError("create", path(of: name), code: ENOENT)
        }
        return folder
    }

    /// The reason why this process may not add entries to the folder. Nil if the permissions allow it.
    public var obstacle: FileError? {
        faccessat(descriptor, ".", W_OK | X_OK, 0) == 0 ? nil : FileError("add to", path)
    }

    /// Opens the regular file called `name` with `flags`. Nil if the entry does not exist. Throws `FileError`, also if the entry
    /// is a link, a pipe or a device.
    public func open(
        _ name: String, _ flags: Int32 = O_RDONLY, mode: mode_t = 0o666
    ) throws(FileError) -> Int32? {
        // O_NONBLOCK: the open of a pipe would wait. For regular files the flag has no effect.
        let file = openat(
            descriptor, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, mode)
        guard file >= 0 else {
            let code = errno
            if code == ENOENT { return nil }
            try refuse(name, expected: "a file")
            throw FileError(flags & O_CREAT != 0 ? "create" : "open", path(of: name), code: code)
        }
        var info = stat()
        guard fstat(file, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
            close(file)
            throw FileError(
                path(of: name), isA: FileError.Entry(info.st_mode), expected: "a file")
        }
        return file
    }

    /// Returns the names in the folder that end in `ending`, sorted by bytes. Throws `FileError`.
    public func names(endingIn ending: String = "") throws(FileError) -> [String] {
        let listing = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC)
        guard listing >= 0 else { throw FileError("list", path) }
        guard let directory = fdopendir(listing) else {
            let code = errno
            close(listing)
            throw FileError("list", path, code: code)
        }
        defer { closedir(directory) }
        return try entryNames(of: directory, path, endingIn: ending)
    }

    /// Removes the file or link called `name`. Does nothing if it does not exist. Throws `FileError`.
    public func remove(_ name: String) throws(FileError) {
        guard unlinkat(descriptor, name, 0) == 0 || errno == ENOENT else {
            throw FileError("remove", path(of: name))
        }
    }

    /// Removes the empty folder called `name`. Returns whether it did: false if the folder has entries or does not exist.
    @discardableResult
    public func removeFolder(_ name: String) -> Bool {
        unlinkat(descriptor, name, AT_REMOVEDIR) == 0
    }

    /// Removes the entry called `name`; of a folder, all entries too. Removes a link and never its target, whenever somebody puts
    /// the link there. Does nothing if the entry does not exist or disappears meanwhile. Throws `FileError`.
    public func removeTree(_ name: String) throws(FileError) {
        try removeTree(name, depth: 0)
    }

    private func removeTree(_ name: String, depth: Int) throws(FileError) {
        guard depth < Folder.maximumDepth else {
            throw FileError("remove", path(of: name), code: ENAMETOOLONG)
        }
        guard let info = try status(of: name) else { return }
        guard info.st_mode & S_IFMT == S_IFDIR else { return try remove(name) }
        guard let folder = try folder(name) else { return }
        for entry in try folder.names() { try folder.removeTree(entry, depth: depth + 1) }
        guard removeFolder(name) || errno == ENOENT else {
            throw FileError("remove", path(of: name))
        }
    }

    /// Renames the entry called `name` to `newName` in `folder`. Replaces an entry of that name; replaces a link and not its
    /// target. Throws `FileError`.
    public func rename(
        _ name: String, to newName: String, in folder: Folder
    ) throws(FileError) {
        guard renameat(descriptor, name, folder.descriptor, newName) == 0 else {
            throw FileError("rename", folder.path(of: newName))
        }
    }

    /// Makes a hard link to the file called `name` as `newName` in `folder`. Returns the error number, 0 on success.
    public func link(_ name: String, as newName: String, in folder: Folder) -> Int32 {
        linkat(descriptor, name, folder.descriptor, newName, 0) == 0 ? 0 : errno
    }

    /// Makes a symbolic link called `name` with the target `content`. Returns the error number, 0 on success.
    public func makeLink(_ name: String, to content: String) -> Int32 {
        symlinkat(content, descriptor, name) == 0 ? 0 : errno
    }

    /// Writes the entries of the folder to the disk. Throws `FileError` as `synchronizeDirectory` does.
    public func synchronize() throws(FileError) {
        let own = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard own >= 0 else {
            if isWithoutSynchronizing(errno) { return }
            throw FileError("synchronize", path)
        }
        defer { close(own) }
        try synchronizeFolder(own, path)
    }

    /// Explains a failed open: throws `FileError` if the entry called `name` exists and is not what was `expected`.
    private func refuse(_ name: String, expected: String) throws(FileError) {
        guard let info = try status(of: name) else { return }
        let entry = FileError.Entry(info.st_mode)
        guard entry != .file || expected != "a file", entry != .folder || expected != "a folder"
        else { return }
        throw FileError(path(of: name), isA: entry, expected: expected)
    }
}
