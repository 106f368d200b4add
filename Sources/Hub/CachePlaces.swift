// Opens the cache's folders by handle: others may write to a cache, and nothing that they put there may lead to files outside the
// cache.

import Files
import Glibc

extension HubCache {
    /// A folder of the cache. REPOSITORY is the repository's folder, `models--…` or `datasets--…`.
    enum Place {
        /// `REPOSITORY/.sae-extract` and folders in it.
        case own([String] = [])
        /// `REPOSITORY/refs` and folders in it.
        case references([String] = [])
        /// `REPOSITORY/blobs`.
        case blobs
        /// `REPOSITORY/snapshots/COMMIT` and folders in it.
        case snapshot(String, [String] = [])
        /// `REPOSITORY/snapshots`.
        case snapshots
        /// `.locks/REPOSITORY`.
        case locks
    }

    /// The names that lead from the cache's root to `place`, and how many of them, from the first on, may be links: the owner of
    /// a cache may keep large folders elsewhere. Only links that this user or root has made are followed.
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

    /// The cache's root; nil if it does not exist. Throws `FileError`, also if another user's link is in place of the root,
    /// unless the user has given the root itself.
    private func existingRoot() throws(FileError) -> Folder? {
        do {
            guard !isRootGiven else { return try Folder(root) }
            return try Folder(parentFolder(of: root)).folderOrOwnLink(pathSteps(root).last!)
        } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
    }

    /// The folder at `place`; nil if it does not exist. Throws `FileError`, also if a link that is not followed, or something
    /// that is not a folder, is in place of the folder.
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

    /// Returns the folder at `place`, and creates it and the folders above it if they do not exist. Throws `FileError` as
    /// `existing` does.
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

    /// The folder and the name of the file at `path` of `commit`.
    func place(of path: String, of commit: String) -> (place: Place, name: String) {
        let steps = pathSteps(path)
        return (.snapshot(commit, Array(steps.dropLast())), steps.last ?? path)
    }

    /// Throws `FileError` if another user's link is in place of the cache's root, or if our own folder is a link or not a folder:
    /// nothing may be read from such a folder.
    func check() throws(FileError) {
        try checkRoot()
        // By path, not by handle: a cache behind another user's link may still be read.
        var info = stat()
        guard lstat(ownFolder, &info) == 0, info.st_mode & S_IFMT != S_IFDIR else { return }
        throw FileError(ownFolder, isA: FileError.Entry(info.st_mode), expected: "a folder")
    }

    private func checkRoot() throws(FileError) {
        if !isRootGiven { _ = try existingRoot() }
    }
}
