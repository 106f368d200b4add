// Paths in folders that other users may write to. Each operation opens the folders again, beginning with the folder
// that the user has given. So it also works after a folder was removed and created again.

import Glibc

/// A place below a folder that the user has given. Operations throw an error if a folder below `root` is a symlink.
public struct GuardedPath: Codable, Hashable, Sendable, CustomStringConvertible {
    /// The folder that the user has given. This folder may be a symlink.
    public let root: String
    /// The names of the folders below `root` in order, then the name of the entry itself.
    public let steps: [String]

    /// Makes the place with the names `steps` below the folder `root`.
    public init(_ root: String, _ steps: String...) { (self.root, self.steps) = (root, steps) }

    private init(root: String, steps: [String]) { (self.root, self.steps) = (root, steps) }

    /// Makes the place at `path` below `root`. `path` was read from a file, so its names are checked. Nil if a name
    /// is empty, "." or "..", or contains a NUL byte.
    public init?(_ root: String, below path: String) {
        let steps = pathSteps(path)
        guard steps.allSatisfy(GuardedPath.isName) else { return nil }
        (self.root, self.steps) = (root, steps)
    }

    private static func isName(_ step: String) -> Bool {
        !["", ".", ".."].contains(step) && !step.utf8.contains { $0 == 0 || $0 == 0x2F }
    }

    /// Makes the place of the file at `path`, which the user has given. The file's folder may be a symlink; the file
    /// itself may not.
    public init(file path: String) {
        let folder = parentFolder(of: path)
        root = folder.isEmpty && path.utf8.first == UInt8(ascii: "/") ? "/" : folder
        steps = [pathSteps(path).last { !$0.isEmpty } ?? path]
    }

    /// Returns the place of the entry called `name` in the folder at `place`.
    public static func / (place: GuardedPath, name: String) -> GuardedPath {
        GuardedPath(root: place.root, steps: place.steps + [name])
    }

    /// The name of the entry at this place.
    public var name: String { steps.last ?? root }

    /// The folder that contains the place.
    public var parent: GuardedPath { GuardedPath(root: root, steps: steps.dropLast()) }

    /// The path as text, for other programs and for messages.
    public var path: String {
        let below = steps.joined(separator: "/")
        if below.isEmpty || root.isEmpty { return root + below }
        return root.utf8.last == UInt8(ascii: "/") ? root + below : "\(root)/\(below)"
    }

    /// The same as `path`.
    public var description: String { path }

    // MARK: Folders

    /// Opens the folder at this place. Nil if this folder or a folder above it does not exist. Throws `FileError`,
    /// also if a folder below `root` is a symlink.
    public func folder() throws(FileError) -> Folder? {
        var folder: Folder
        do {
            folder = try Folder(root)
        } catch {
            if error.code == ENOENT { return nil }
            // A part of `root` is a file, so the folder cannot be created either.
            throw error.code == ENOTDIR ? FileError("create", root, code: ENOTDIR) : error
        }
        for step in steps {
            guard let next = try folder.folder(step) else { return nil }
            folder = next
        }
        return folder
    }

    /// Opens the folder at this place. Creates this folder and the folders above it if they do not exist. Throws
    /// `FileError`.
    @discardableResult
    public func makeFolder() throws(FileError) -> Folder {
        try makeDirectories(root)
        var folder = try Folder(root)
        for step in steps { folder = try folder.makeFolder(step) }
        return folder
    }

    /// Opens the folder that contains this place. Throws `FileError`, also if the folder does not exist.
    func existingParent() throws(FileError) -> Folder {
        guard let folder = try parent.folder() else {
            throw FileError("open", parent.path, code: ENOENT)
        }
        return folder
    }

    /// Returns the names in the folder at this place that end in `ending`. Returns an empty list if the folder does
    /// not exist. Throws `FileError`.
    public func names(endingIn ending: String = "") throws(FileError) -> [String] {
        try folder()?.names(endingIn: ending) ?? []
    }

    // MARK: Entries

    /// Returns the status of the entry at this place. For a symlink, returns the status of the symlink itself. Nil if
    /// no entry exists. Throws `FileError`.
    public func status() throws(FileError) -> stat? { try parent.folder()?.status(of: name) }

    /// Whether an entry exists at this place. True also for a symlink.
    public var exists: Bool { (try? status()) != nil }

    /// Opens the regular file at this place. Nil if no entry exists. Throws `FileError`, also for a symlink, a FIFO
    /// or a device.
    public func open(_ flags: Int32 = O_RDONLY) throws(FileError) -> Int32? {
        try parent.folder()?.open(name, flags)
    }

    /// Removes the entry at this place, and all entries in it if it is a folder. Does nothing if no entry exists.
    /// Throws `FileError`.
    public func remove() throws(FileError) { try parent.folder()?.removeTree(name) }

    /// Writes the list of entries of the folder at this place to the disk (fsync). Throws `FileError`.
    public func synchronize() throws(FileError) {
        guard let folder = try folder() else { throw FileError("synchronize", path, code: ENOENT) }
        try folder.synchronize()
    }
}
