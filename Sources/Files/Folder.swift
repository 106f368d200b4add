// Folders that others may write to, by handle: what is in one is reached from the handle by name, through no link, so that
// whoever puts a link or a pipe there does not lead this program to other files (CWE-59).

import Glibc

/// A handle to what lies at a path, not to its content. Swift does not see it (fcntl.h, asm-generic).
private let O_PATH: Int32 = 0o10_000_000

/// An open folder. Its entries are named relative to it; names have no `/`.
public final class Folder: Sendable {
    /// The folder as errors name it.
    public let path: String
    /// Open with `O_PATH`: a folder that may not be listed can be entered all the same.
    private let descriptor: Int32

    /// How deep folders may be nested that `removeTree` removes: ours are never so deep.
    private static let maximumDepth = 64

    private init(path: String, descriptor: Int32) {
        (self.path, self.descriptor) = (path, descriptor)
    }

    deinit { close(descriptor) }

    /// Opens the folder at `path`, which a user has given: links in it are the user's own. Throws `FileError`.
    public convenience init(_ path: String) throws(FileError) {
        let name = path.isEmpty ? "." : path
        let descriptor = Glibc.open(name, O_PATH | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError("open", name) }
        self.init(path: path, descriptor: descriptor)
    }

    /// The path of the entry called `name`, for messages.
    public func path(of name: String) -> String {
        path.isEmpty || path.utf8.last == UInt8(ascii: "/") ? path + name : "\(path)/\(name)"
    }

    /// What lies under `name`, be it a link; nil where nothing does. Throws `FileError`.
    public func status(of name: String) throws(FileError) -> stat? {
        var info = stat()
        guard fstatat(descriptor, name, &info, AT_SYMLINK_NOFOLLOW) != 0 else { return info }
        guard errno == ENOENT else { throw FileError("examine", path(of: name)) }
        return nil
    }

    /// Whether what is called `name` is a regular file, not a link to one. Throws `FileError`.
    public func isFile(_ name: String) throws(FileError) -> Bool {
        try status(of: name).map { $0.st_mode & S_IFMT == S_IFREG } ?? false
    }

    /// The folder called `name`; nil where there is nothing of that name. Throws `FileError`, also where it is a link.
    public func folder(_ name: String) throws(FileError) -> Folder? {
        let path = path(of: name)
        let folder = openat(descriptor, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard folder < 0 else { return Folder(path: path, descriptor: folder) }
        let code = errno
        if code == ENOENT { return nil }
        try refuse(name, expected: "a folder")
        throw FileError("open", path, code: code)
    }

    /// The folder called `name`, or the one that a link of that name leads to if this user or root has made the link: nobody else
    /// makes such a one. Nil where there is nothing of that name. Throws `FileError`, also where it is another user's link.
    public func folderOrOwnLink(_ name: String) throws(FileError) -> Folder? {
        // The link itself: what is followed is what was looked at, whatever is put in its place meanwhile.
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

    /// The folder called `name`, made where it is not there; with `orOwnLink` also by a link, as `folderOrOwnLink`. Throws
    /// `FileError`.
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

    /// Why this process may not add entries here; nil where it may, as far as permissions say.
    public var obstacle: FileError? {
        faccessat(descriptor, ".", W_OK | X_OK, 0) == 0 ? nil : FileError("add to", path)
    }

    /// Opens the regular file called `name` with `flags`; nil where there is nothing of that name. Throws `FileError`, also
    /// where it is a link, a pipe or a device.
    public func open(
        _ name: String, _ flags: Int32 = O_RDONLY, mode: mode_t = 0o666
    ) throws(FileError) -> Int32? {
        // Not to wait at a pipe; of regular files it means nothing.
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

    /// The names in the folder that end in `ending`, sorted by bytes. Throws `FileError`.
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

    /// Removes the file or link called `name`; what is not there is no error. Throws `FileError`.
    public func remove(_ name: String) throws(FileError) {
        guard unlinkat(descriptor, name, 0) == 0 || errno == ENOENT else {
            throw FileError("remove", path(of: name))
        }
    }

    /// Removes the empty folder called `name`. Says whether it did: not where it has something in it, or is not there.
    @discardableResult
    public func removeFolder(_ name: String) -> Bool {
        unlinkat(descriptor, name, AT_REMOVEDIR) == 0
    }

    /// Removes what is called `name`, a folder with all that is in it. Of a link the link goes alone, whenever somebody puts
    /// it there. What is not there, or goes meanwhile, is no error. Throws `FileError`.
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

    /// Gives the entry called `name` the name `newName` in `folder`, in place of what has it there; a link there is replaced
    /// itself. Throws `FileError`.
    public func rename(
        _ name: String, to newName: String, in folder: Folder
    ) throws(FileError) {
        guard renameat(descriptor, name, folder.descriptor, newName) == 0 else {
            throw FileError("rename", folder.path(of: newName))
        }
    }

    /// Gives the file called `name` a second name in `folder`. Returns the error's number, 0 for none.
    public func link(_ name: String, as newName: String, in folder: Folder) -> Int32 {
        linkat(descriptor, name, folder.descriptor, newName, 0) == 0 ? 0 : errno
    }

    /// Makes a link called `name` that says `content`. Returns the error's number, 0 for none.
    public func makeLink(_ name: String, to content: String) -> Int32 {
        symlinkat(content, descriptor, name) == 0 ? 0 : errno
    }

    /// Makes the entries reach the disk. Throws `FileError` as `synchronizeDirectory` does.
    public func synchronize() throws(FileError) {
        let own = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard own >= 0 else {
            if isWithoutSynchronizing(errno) { return }
            throw FileError("synchronize", path)
        }
        defer { close(own) }
        try synchronizeFolder(own, path)
    }

    /// Fails where what is called `name` is neither a folder nor a regular file, as opening it has found.
    private func refuse(_ name: String, expected: String) throws(FileError) {
        guard let info = try status(of: name) else { return }
        let entry = FileError.Entry(info.st_mode)
        guard entry != .file || expected != "a file", entry != .folder || expected != "a folder"
        else { return }
        throw FileError(path(of: name), isA: entry, expected: expected)
    }
}
