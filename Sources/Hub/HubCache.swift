// Hugging Face's cache folder, shared with Python's huggingface_hub (file_download.py):
//   models--google--gemma-2-2b/refs/main            the commit of `main` when its files were downloaded
//   models--google--gemma-2-2b/snapshots/COMMIT/…   symlinks to blobs, by the paths in the repository
//   models--google--gemma-2-2b/blobs/ID             contents, named by SHA-256 or git's id
//   .locks/models--google--gemma-2-2b/ID.lock       locked (flock) while ID is downloaded
// Used only by this program, in a repository's folder:
//   .sae-extract/refs/main      the commit of `main` when the Hub was last asked
//   .sae-extract/COMMIT.json    the listing of COMMIT by this program. It is not stored in `trees/`, the folder of
//                               huggingface_hub's listings. Reason: huggingface_hub takes a snapshot for incomplete
//                               if a file of a listing in `trees/` is missing
//   .sae-extract/ID/….partial   partial downloads of ID, in progress or interrupted

import ByteJSON
import Files
import Glibc

/// The part of the cache that belongs to one repository.
struct HubCache: Sendable {
    let reference: RepositoryReference
    /// The path of the repository's folder: `…/models--google--gemma-2-2b`.
    let folder: String
    let root: String
    /// Whether a variable names the root itself (`HF_HUB_CACHE`). Then the root may be any symlink. False if a
    /// variable names a folder above the root (`HF_HOME`), or if no variable is set.
    let isRootGiven: Bool

    init(_ reference: RepositoryReference, in root: String, isRootGiven: Bool = true) {
        (self.reference, self.root, self.isRootGiven) = (reference, root, isRootGiven)
        folder = "\(root)/\(reference.folderName)"
    }

    // MARK: Revisions

    /// The name of this program's own folder in a repository's folder.
    static let ownName = ".sae-extract"

    var ownFolder: String { "\(folder)/\(HubCache.ownName)" }

    /// The revision's commit, as far as the cache knows it: the commit that was downloaded last, otherwise the commit
    /// that the Hub has named last. Nil if neither is known.
    var commit: String? {
        if reference.isCommit { return reference.revision }
        return [folder, ownFolder].lazy.compactMap { folder in
            guard let file = try? MappedFile(path: "\(folder)/refs/\(reference.revision)"),
                file.bytes.count < 100
            else { return nil }
            let commit = String(decoding: file.bytes, as: UTF8.self).filter { !$0.isWhitespace }
            return isCommitID(commit) ? commit : nil
        }.first
    }

    /// Writes the revision's ref. Call this function only after the commit's files are in the cache: if the ref
    /// exists, huggingface_hub assumes that the files are in the cache. Throws `FileError`.
    func setCommit(_ commit: String) throws {
        try make(.snapshot(commit))
        try write(commit, folder) { .references($0) }
    }

    /// Records in this program's own folder which commit the Hub has named for the revision. Throws `FileError`.
    func noteCommit(_ commit: String) throws {
        // huggingface_hub prints a warning about a repository without the folder `snapshots`.
        try make(.snapshots)
        try write(commit, ownFolder) { .own(["refs"] + $0) }
    }

    /// Writes `commit` to the revision's ref in `folder`. A revision such as `refs/pr/1` contains folders; `place`
    /// returns the place for these folders. Throws `FileError`.
    private func write(_ commit: String, _ folder: String, _ place: ([String]) -> Place) throws {
        guard !reference.isCommit else { return }
        let path = "\(folder)/refs/\(reference.revision)"
        if let file = try? MappedFile(path: path), file.bytes.elementsEqual(commit.utf8) { return }
        let steps = pathSteps(reference.revision)
        try write(Array(commit.utf8), as: steps.last!, in: place(Array(steps.dropLast())))
    }

    /// Creates or replaces the file `name` in `place`. Other processes see the complete `content` or no change.
    /// Throws `FileError`.
    private func write(_ content: [UInt8], as name: String, in place: Place) throws {
        let target = try make(place)
        // The temporary file is not created in `target`, because every file in a folder of refs counts as a ref.
        let own = try make(.own())
        let (descriptor, temporary) = try own.createUnique(mode: HubCache.unfinishedMode)
        defer { close(descriptor) }
        do {
            try content.withUnsafeBytes {
                try writeAll($0, to: descriptor, path: own.path(of: temporary))
            }
            guard synchronizeToDisk(descriptor) else {
                throw FileError("write", own.path(of: temporary))
            }
            if let mode = own.ordinaryMode { fchmod(descriptor, mode) }
            try move(temporary, open: descriptor, from: own, to: name, in: target)
        } catch {
            try? own.remove(temporary)
            throw error
        }
    }

    // MARK: Listings

    /// The path of this program's listing of `commit`.
    func listingPath(_ commit: String) -> String { "\(ownFolder)/\(commit).json" }

    /// The paths of two listings of `commit`: by this program, and by huggingface_hub.
    private func listingPaths(_ commit: String) -> [String] {
        [listingPath(commit), "\(folder)/trees/\(commit).json"]
    }

    /// Returns the cached listing of `commit`; nil if no readable listing exists.
    func listing(_ commit: String) -> RepositoryListing? {
        listingPaths(commit).lazy.compactMap { RepositoryListing(path: $0) }.first
    }

    /// Returns a cached listing of `commit` that only this user can have written; nil if none exists. Another user
    /// could write wrong digests into any other listing.
    func ownListing(_ commit: String, _ contents: CheckedContents) -> RepositoryListing? {
        listingPaths(commit).lazy.filter { contents.isOwn($0) }
            .compactMap { RepositoryListing(path: $0) }.first
    }

    /// Stores the listing of `commit` in this program's own folder. Throws `FileError`.
    func store(_ listing: RepositoryListing, of commit: String) throws {
        try make(.snapshots)
        var text: [UInt8] = []
        JSONText.append(listing.json, to: &text)
        try write(text, as: "\(commit).json", in: .own())
    }

    /// Removes three kinds of files that killed processes have left: temporary files more than an hour old, partial
    /// downloads of contents that are in the cache, and partial downloads that were not continued for a week.
    func tidy() {
        guard let own = try? existing(.own()), let names = try? own.names() else { return }
        for name in names {
            if isBlobName(name) {
                tidyParts(of: name, in: own)
            } else if name.hasSuffix(".partial") || name.hasSuffix(".link"),
                let info = try? own.status(of: name), time(nil) - info.st_mtim.tv_sec > 3600
            {
                try? own.remove(name)
            }
        }
    }

    /// Removes the partial downloads of `blob` and their folder, if no process can need them. Does nothing if the
    /// folder has other files, because this program creates no such files.
    private func tidyParts(of blob: String, in own: Folder) {
        let parts = earlierPartials(blob)
        guard let folder = try? own.folder(blob), let names = try? folder.names(),
            names.allSatisfy({ $0.hasSuffix(".partial") }),
            fileExists(self.blob(blob)) || parts.allSatisfy({ $0.age > 7 * 86400 })
        else { return }
        for name in names { try? folder.remove(name) }
        own.removeFolder(blob)
    }

    private func isBlobName(_ name: String) -> Bool {
        isCommitID(name) || isHexadecimal(name, count: 64)
    }

    // MARK: Files

    /// The path of the snapshot of `commit`, a folder with symlinks to blobs.
    func snapshot(_ commit: String) -> String { "\(folder)/snapshots/\(commit)" }

    /// The path of the file `path` of `commit`. The file may not exist.
    func file(_ path: String, of commit: String) -> String { "\(snapshot(commit))/\(path)" }

    /// The maximum depth of folders that are searched. No repository has so many levels.
    private static let maximumDepth = 64

    /// Returns the paths of the files of `commit` that are in the cache, sorted. Throws `FileError`.
    func files(of commit: String) throws -> [String] {
        // Symlinks to folders are not followed. A symlink to its own parent folder would give infinitely many paths.
        func walk(_ folder: Folder, _ prefix: String, _ depth: Int) throws -> [String] {
            guard depth < HubCache.maximumDepth else {
                throw FileError("list", folder.path, code: ELOOP)
            }
            return try folder.names().flatMap { name -> [String] in
                guard let info = try folder.status(of: name) else { return [] }
                if info.st_mode & S_IFMT == S_IFDIR {
                    return try folder.folder(name).map {
                        try walk($0, "\(prefix)\(name)/", depth + 1)
                    } ?? []
                }
                let path = folder.path(of: name)
                return fileExists(path) && !isDirectory(path) ? [prefix + name] : []
            }
        }
        return try existing(.snapshot(commit)).map { try walk($0, "", 0) } ?? []
    }

    /// Whether the file at `path` of `commit` exists and has `size` bytes. If `size` is nil, any size counts. A
    /// truncated file is recognized only by its size.
    func has(_ path: String, of commit: String, size: Int?) -> Bool {
        let file = file(path, of: commit)
        guard fileExists(file), !isDirectory(file) else { return false }
        return size.map { fileSize(file) == $0 } ?? true
    }

    /// The path of the blob called `name`. The blob may not exist.
    func blob(_ name: String) -> String { "\(folder)/blobs/\(name)" }

    /// A partial download, in progress or interrupted.
    struct Partial {
        /// The name of the file in the folder for the content's partial downloads.
        let name: String
        let size: Int
        /// The seconds since the last write to the file.
        let age: Int
    }

    /// Returns the partial downloads of the content `blob`, in progress or interrupted.
    func earlierPartials(_ blob: String) -> [Partial] {
        guard let folder = try? existing(.own([blob])),
            let names = try? folder.names(endingIn: ".partial")
        else { return [] }
        return names.compactMap { name in
            guard let info = try? folder.status(of: name), info.st_mode & S_IFMT == S_IFREG else {
                return nil
            }
            return Partial(
                name: name, size: Int(info.st_size), age: time(nil) - info.st_mtim.tv_sec)
        }
    }

    /// Creates the file at `path` of `commit` as a symlink to the blob of `file`. The symlink is relative, because
    /// the cache may be moved later. Throws `FileError`.
    func link(_ path: String, of commit: String, to file: RepositoryFile) throws {
        let blob = file.digest.name
        let (place, name) = place(of: path, of: commit)
        let target = try make(place)
        let steps = path.utf8.count { $0 == UInt8(ascii: "/") } + 2
        let content = String(repeating: "../", count: steps) + "blobs/\(blob)"
        let own = try make(.own())
        let temporary = uniqueName() + ".link"
        let code = own.makeLink(temporary, to: content)
        guard code == 0 else {
            // On a file system without symlinks, the blob itself is moved into the snapshot, as huggingface_hub does.
            guard hasNoLinks(code) else {
                throw FileError("create", own.path(of: temporary), code: code)
            }
            do {
                try make(.blobs).rename(blob, to: name, in: target)
            } catch {
                guard try target.status(of: name) != nil else { throw error }
            }
            return
        }
        do {
            try own.rename(temporary, to: name, in: target)
        } catch {
            try? own.remove(temporary)
            // EXDEV: `snapshots` is a symlink to another file system. Then the new symlink is created directly in
            // `target`.
            guard error.code == EXDEV else { throw error }
            try replace(name, in: target, byLinkTo: content)
        }
        if has(path, of: commit, size: file.size) { return }
        // If `snapshots` is a symlink, the relative symlink leads elsewhere. An absolute symlink replaces it.
        try replace(name, in: target, byLinkTo: try realPath(self.blob(blob)))
        guard has(path, of: commit, size: file.size) else {
            throw FileError("open", self.file(path, of: commit))
        }
    }
}

/// Whether `code` is an error with which `symlink` fails on a file system without symlinks.
func hasNoLinks(_ code: Int32) -> Bool { [EPERM, EOPNOTSUPP, ENOSYS].contains(code) }
