// Access to folders that other users may write to. Each entry is reached by its name from the open folder, and
// symlinks of other users are not followed. So other users cannot redirect this program to other files (CWE-59).

import Glibc

/// O_PATH opens an entry without access to its content. Swift does not import this macro (fcntl.h, asm-generic).
private let O_PATH: Int32 = 0o10_000_000

/// An open folder. The names of its entries are relative to the folder and contain no `/`.
public final class Folder: Sendable {
    /// The path of the folder, for errors.
    public let path: String
    /// Opened with `O_PATH`. So the entries of a folder can be opened even if the folder may not be listed.
    private let descriptor: Int32

    /// The deepest nesting of folders that `removeTree` removes. This program never nests its folders so deeply.
    private static let maximumDepth = 64

    private init(path: String, descriptor: Int32) {
        (self.path, self.descriptor) = (path, descriptor)
    }

    deinit { close(descriptor) }

    /// Opens the folder at `path`. Follows symlinks in `path`, because the user has given it. Throws `FileError`.
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

    /// Returns the status of the entry called `name`. For a symlink, returns the status of the symlink itself. Nil if
    /// the entry does not exist. Throws `FileError`.
    public func status(of name: String) throws(FileError) -> stat? {
        var info = stat()
        guard fstatat(descriptor, name, &info, AT_SYMLINK_NOFOLLOW) != 0 else { return info }
        guard errno == ENOENT else { throw FileError("examine", path(of: name)) }
        return nil
    }

    /// Returns whether the entry called `name` is a regular file. False for a symlink to a file. Throws `FileError`.
    public func isFile(_ name: String) throws(FileError) -> Bool {
        try status(of: name).map { $0.st_mode & S_IFMT == S_IFREG } ?? false
    }

    /// Opens the folder called `name`. Nil if no such entry exists. Throws `FileError`, also if the entry is a
    /// symlink.
    public func folder(_ name: String) throws(FileError) -> Folder? {
        let path = path(of: name)
        let folder = openat(descriptor, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard folder < 0 else { return Folder(path: path, descriptor: folder) }
        let code = errno
        if code == ENOENT { return nil }
        try refuse(name, expected: "a folder")
        throw FileError("open", path, code: code)
    }

    /// Opens the folder called `name`. Follows a symlink only if root or the user who runs this process owns it,
    /// because no other user can make such a symlink. Nil if the entry does not exist. Throws `FileError`, also for a
    /// symlink of another user.
    public func folderOrOwnLink(_ name: String) throws(FileError) -> Folder? {
        // Opens the symlink itself, so that owner and target are those of the same symlink, even if another user
        // replaces the entry meanwhile.
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

    /// Opens the folder called `name`. Creates the folder if it does not exist. With `orOwnLink`, follows a symlink
    /// of root or of the user who runs this process. Throws `FileError`.
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

    /// The error that says why this process may not add entries to the folder. Nil if the permissions allow it.
    public var obstacle: FileError? {
        faccessat(descriptor, ".", W_OK | X_OK, 0) == 0 ? nil : FileError("add to", path)
    }

    /// Opens the regular file called `name` with `flags`. Nil if the entry does not exist. Throws `FileError`, also
    /// if the entry is a symlink, a FIFO or a device.
    public func open(
        _ name: String, _ flags: Int32 = O_RDONLY, mode: mode_t = 0o666
    ) throws(FileError) -> Int32? {
        // O_NONBLOCK: without this flag, opening a FIFO would wait. For regular files the flag has no effect.
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

    /// Removes the file or symlink called `name`. Does nothing if no such entry exists. Throws `FileError`.
    public func remove(_ name: String) throws(FileError) {
        guard unlinkat(descriptor, name, 0) == 0 || errno == ENOENT else {
            throw FileError("remove", path(of: name))
        }
    }

    /// Removes the folder called `name` if it is empty. Returns whether the folder was removed.
    @discardableResult
    public func removeFolder(_ name: String) -> Bool {
        unlinkat(descriptor, name, AT_REMOVEDIR) == 0
    }

    /// Removes the entry called `name`, and all entries in it if it is a folder. Never follows a symlink, even if
    /// another user puts it there during the call. Does nothing if the entry does not exist. Throws `FileError`.
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

    /// Renames the entry called `name` to `newName` in `folder`, and replaces an existing entry of that name.
    /// Replaces a symlink itself, not its target. Throws `FileError`.
    public func rename(
        _ name: String, to newName: String, in folder: Folder
    ) throws(FileError) {
        guard renameat(descriptor, name, folder.descriptor, newName) == 0 else {
            throw FileError("rename", folder.path(of: newName))
        }
    }

    /// Creates `newName` in `folder` as a hard link to the file called `name`. Returns 0 or the error number.
    public func link(_ name: String, as newName: String, in folder: Folder) -> Int32 {
        linkat(descriptor, name, folder.descriptor, newName, 0) == 0 ? 0 : errno
    }

    /// Creates a symlink called `name` with the target `content`. Returns the error number, 0 on success.
    public func makeLink(_ name: String, to content: String) -> Int32 {
        symlinkat(content, descriptor, name) == 0 ? 0 : errno
    }

    /// Writes the list of entries of the folder to the disk (fsync). Throws `FileError` in the same cases as
    /// `synchronizeDirectory`.
    public func synchronize() throws(FileError) {
        let own = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard own >= 0 else {
            if isWithoutSynchronizing(errno) { return }
            throw FileError("synchronize", path)
        }
        defer { close(own) }
        try synchronizeFolder(own, path)
    }

    /// Throws `FileError` if the entry called `name` exists and is not of the `expected` type. This explains why it
    /// could not be opened.
    private func refuse(_ name: String, expected: String) throws(FileError) {
        guard let info = try status(of: name) else { return }
        let entry = FileError.Entry(info.st_mode)
        guard entry != .file || expected != "a file", entry != .folder || expected != "a folder"
        else { return }
        throw FileError(path(of: name), isA: entry, expected: expected)
    }
}
