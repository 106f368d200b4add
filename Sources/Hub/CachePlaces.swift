// Opens the cache's folders by descriptor, one path component after the other. Other users may be able to write to a
// cache. Their symlinks must not lead this program to files outside the cache.

import Files
import Glibc

extension HubCache {
    /// A folder of the cache. REPOSITORY stands for the name of the repository's folder, `models--…` or
    /// `datasets--…`.
    enum Place {
        /// `REPOSITORY/.sae-extract`, or a folder below it with the given path components.
        case own([String] = [])
        /// `REPOSITORY/refs`, or a folder below it with the given path components.
        case references([String] = [])
        /// `REPOSITORY/blobs`.
        case blobs
        /// `REPOSITORY/snapshots/COMMIT`, or a folder below it with the given path components.
        case snapshot(String, [String] = [])
        /// `REPOSITORY/snapshots`.
        case snapshots
        /// `.locks/REPOSITORY`.
        case locks
    }

    /// Returns the path components from the cache's root to `place`. The first `linkable` components may be symlinks,
    /// because the owner of a cache may keep large folders elsewhere. A symlink is followed only if this user or root
    /// owns it.
    private func way(to place: Place) -> (steps: [String], linkable: Int) {
        let repository = reference.folderName
        return switch place {
        case .own(let folders): ([repository, HubCache.ownName] + folders, 1)
        case .references(let folders): ([repository, "refs"] + folders, 2)
        case .blobs: ([repository, "blobs"], 2)
        case .snapshot(let commit, let folders): ([repository, "snapshots", commit] + folders, 2)
        case .snapshots: ([repository, "snapshots"], 2)
        case .locks: ([".locks", repository], 2)
        }
    }

    /// Opens the cache's root; nil if it does not exist. Throws `FileError`. If a variable names a folder above the
    /// root and not the root itself, also throws `FileError` for a root that is another user's symlink.
    private func existingRoot() throws(FileError) -> Folder? {
        do {
            guard !isRootGiven else { return try Folder(root) }
            return try Folder(parentFolder(of: root)).folderOrOwnLink(pathSteps(root).last!)
        } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
    }

    /// Opens the folder at `place`; nil if it does not exist. Throws `FileError`, also if a path component is not a
    /// folder, or is a symlink that must not be followed (see `way`).
    func existing(_ place: Place) throws(FileError) -> Folder? {
        guard var folder = try existingRoot() else { return nil }
        let (steps, linkable) = way(to: place)
        for (index, step) in steps.enumerated() {
            let next =
                index < linkable ? try folder.folderOrOwnLink(step) : try folder.folder(step)
            guard let next else { return nil }
            folder = next
        }
        return folder
    }

    /// Opens the folder at `place`. Creates this folder and the folders above it if they do not exist. Throws
    /// `FileError` in the same cases as `existing`.
    @discardableResult
    func make(_ place: Place) throws(FileError) -> Folder {
        try checkRoot()
        try makeDirectories(root)
        guard var folder = try existingRoot() else {
            throw FileError("create", root, code: ENOENT)
        }
        let (steps, linkable) = way(to: place)
        for (index, step) in steps.enumerated() {
            folder = try folder.makeFolder(step, orOwnLink: index < linkable)
        }
        return folder
    }

    /// Returns the folder that contains the file at `path` of `commit`, and the file's name in this folder.
    func place(of path: String, of commit: String) -> (place: Place, name: String) {
        let steps = pathSteps(path)
        return (.snapshot(commit, Array(steps.dropLast())), steps.last ?? path)
    }

    /// Throws `FileError` for folders from which nothing may be read. First case: the cache's root is another user's
    /// symlink, and no variable names the root itself. Second case: this program's own folder in the cache is a
    /// symlink or not a folder.
    func check() throws(FileError) {
        try checkRoot()
        // `existing` is not used, because it throws for another user's symlink to the repository's folder. Files
        // behind such a symlink may still be read.
        var info = stat()
        guard lstat(ownFolder, &info) == 0, info.st_mode & S_IFMT != S_IFDIR else { return }
        throw FileError(ownFolder, isA: FileError.Entry(info.st_mode), expected: "a folder")
    }

    private func checkRoot() throws(FileError) {
        if !isRootGiven { _ = try existingRoot() }
    }
}
