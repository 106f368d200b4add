// Opens the cache's folders one path component at a time, so that other users' symlinks are not followed. Such
// symlinks could lead this program to files outside the cache.

import Files
import Glibc

extension HubCache {
    /// A folder of the cache. REPOSITORY is the name of the repository's folder, `models--…` or `datasets--…`.
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

    /// Returns the path components from the cache's root to `place`. The first `linkable` components may be symlinks
    /// of this user or root, because the owner of a cache may keep large folders elsewhere.
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

    /// Opens the cache's root; nil if it does not exist. Throws `FileError`. If no variable names the root itself,
    /// also throws `FileError` for a root that is another user's symlink.
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
    /// folder, or is a symlink that `way` does not allow.
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
    /// `FileError`, also for every path component that `existing` refuses.
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

    /// Throws `FileError` in two cases, in which the cache must not be read:
    /// 1. The cache's root is another user's symlink, and no variable names the root itself.
    /// 2. This program's own folder in the cache is not a real folder.
    func check() throws(FileError) {
        try checkRoot()
        // Does not call `existing`, which throws if the repository's folder is another user's symlink. Reading files
        // through such a symlink is allowed.
        var info = stat()
        guard lstat(ownFolder, &info) == 0, info.st_mode & S_IFMT != S_IFDIR else { return }
        throw FileError(ownFolder, isA: FileError.Entry(info.st_mode), expected: "a folder")
    }

    private func checkRoot() throws(FileError) {
        if !isRootGiven { _ = try existingRoot() }
    }
}
