// The cache's folders by handle: others may write to a cache, and nothing that they put there leads to files outside of it.

import Files
import Glibc

extension HubCache {
    /// A folder of the cache.
    enum Place {
        /// `models--X/.sae-extract` and folders in it.
        case own([String] = [])
        /// `models--X/refs` and folders in it.
        case references([String] = [])
        /// `models--X/blobs`.
        case blobs
        /// `models--X/snapshots/COMMIT` and folders in it.
        case snapshot(String, [String] = [])
        /// `models--X/snapshots`.
        case snapshots
        /// `.locks/models--X`.
        case locks
    }

    /// The names that lead from the cache's root to `place`, and how many of them may be links: whoever keeps a cache lays
    /// its large folders elsewhere. Only links are followed that this user or root has made.
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

    /// The cache's root; nil where it is not there. Throws `FileError`, also where another user's link is in its place that nobody
    /// has given.
    private func existingRoot() throws(FileError) -> Folder? {
        do {
            guard !isRootGiven else { return try Folder(root) }
            return try Folder(parentFolder(of: root)).folderOrOwnLink(pathSteps(root).last!)
        } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
    }

    /// The folder at `place`; nil where it is not there. Throws `FileError`, also where a link or something else is in its place.
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

    /// The folder at `place`, made with those above it where they are not there. Throws `FileError` as `existing`.
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

    /// The place and the name of the file at `path` of `commit`.
    func place(of path: String, of commit: String) -> (place: Place, name: String) {
        let steps = pathSteps(path)
        return (.snapshot(commit, Array(steps.dropLast())), steps.last ?? path)
    }

    /// Fails where a link or something else is in place of the cache's root or of our own folder, of which nothing may be read then.
    /// Throws `FileError`.
    func check() throws(FileError) {
        try checkRoot()
        // By path: what another user's link above it leads to can still be read.
        var info = stat()
        guard lstat(ownFolder, &info) == 0, info.st_mode & S_IFMT != S_IFDIR else { return }
        throw FileError(ownFolder, isA: FileError.Entry(info.st_mode), expected: "a folder")
    }

    private func checkRoot() throws(FileError) {
        if !isRootGiven { _ = try existingRoot() }
    }
}
