// Paths into folders that others may write to. They are walked from the given folder on at each use, so that a folder that
// has been removed and made again is the new one.

import Glibc

/// A place below a folder that a user has given: every step to it is a real folder, else using it fails.
public struct GuardedPath: Codable, Hashable, Sendable, CustomStringConvertible {
    /// The folder that a user has given. It may be a link.
    public let root: String
    /// The names below it.
    public let steps: [String]

    /// The folder at `root`, and `steps` below it.
    public init(_ root: String, _ steps: String...) { (self.root, self.steps) = (root, steps) }

    private init(root: String, steps: [String]) { (self.root, self.steps) = (root, steps) }

    /// The place at `path` below `root`, as a file says it; nil where a part of it does not lead downwards.
    public init?(_ root: String, below path: String) {
        let steps = pathSteps(path)
        guard steps.allSatisfy(GuardedPath.isName) else { return nil }
        (self.root, self.steps) = (root, steps)
    }

    private static func isName(_ step: String) -> Bool {
        !["", ".", ".."].contains(step) && !step.utf8.contains { $0 == 0 || $0 == 0x2F }
    }

    /// The file at `path`, which a user has given: its folder may be a link, itself it may not.
    public init(file path: String) {
        let folder = parentFolder(of: path)
        root = folder.isEmpty && path.utf8.first == UInt8(ascii: "/") ? "/" : folder
        steps = [pathSteps(path).last { !$0.isEmpty } ?? path]
    }

    /// `name` in the folder at this place.
    public static func / (place: GuardedPath, name: String) -> GuardedPath {
        GuardedPath(root: place.root, steps: place.steps + [name])
    }

    /// The last name.
    public var name: String { steps.last ?? root }

    /// The folder that it lies in.
    public var parent: GuardedPath { GuardedPath(root: root, steps: steps.dropLast()) }

    /// As other programs and messages name it.
    public var path: String {
        let below = steps.joined(separator: "/")
        if below.isEmpty || root.isEmpty { return root + below }
        return root.utf8.last == UInt8(ascii: "/") ? root + below : "\(root)/\(below)"
    }

    /// The path.
    public var description: String { path }

    // MARK: Folders

    /// The folder there; nil where it or one above is not there. Throws `FileError`, also where one of them is a link.
    public func folder() throws(FileError) -> Folder? {
        var folder: Folder
        do {
            folder = try Folder(root)
        } catch {
            if error.code == ENOENT { return nil }
            // A file stands where a folder is to be.
            throw error.code == ENOTDIR ? FileError("create", root, code: ENOTDIR) : error
        }
        for step in steps {
            guard let next = try folder.folder(step) else { return nil }
            folder = next
        }
        return folder
    }

    /// The folder there, made with those above it where they are not there. Throws `FileError`.
    @discardableResult
    public func makeFolder() throws(FileError) -> Folder {
        try makeDirectories(root)
        var folder = try Folder(root)
        for step in steps { folder = try folder.makeFolder(step) }
        return folder
    }

    /// The folder that it lies in, which must be there. Throws `FileError`.
    func existingParent() throws(FileError) -> Folder {
        guard let folder = try parent.folder() else {
            throw FileError("open", parent.path, code: ENOENT)
        }
        return folder
    }

    /// The names in the folder there that end in `ending`; none where it is not there. Throws `FileError`.
    public func names(endingIn ending: String = "") throws(FileError) -> [String] {
        try folder()?.names(endingIn: ending) ?? []
    }

    // MARK: Entries

    /// What lies there, be it a link; nil where nothing does. Throws `FileError`.
    public func status() throws(FileError) -> stat? { try parent.folder()?.status(of: name) }

    /// Whether anything lies there, be it a link.
    public var exists: Bool { (try? status()) != nil }

    /// Opens the regular file there; nil where there is none. Throws `FileError`, also where it is a link, a pipe or a device.
    public func open(_ flags: Int32 = O_RDONLY) throws(FileError) -> Int32? {
        try parent.folder()?.open(name, flags)
    }

    /// Removes what lies there, a folder with all that is in it; nothing there is no error. Throws `FileError`.
    public func remove() throws(FileError) { try parent.folder()?.removeTree(name) }

    /// Makes the folder's entries reach the disk. Throws `FileError`.
    public func synchronize() throws(FileError) {
        guard let folder = try folder() else { throw FileError("synchronize", path, code: ENOENT) }
        try folder.synchronize()
    }
}
