// Hugging Face's cache folder, shared with Python's huggingface_hub (file_download.py). ID is a content's SHA-256 or
// git's id of the content.
//   models--google--gemma-2-2b/refs/main            the commit of `main` that was downloaded last
//   models--google--gemma-2-2b/snapshots/COMMIT/…   the files of COMMIT: symlinks to blobs
//   models--google--gemma-2-2b/blobs/ID             the content
//   .locks/models--google--gemma-2-2b/ID.lock       locked (flock) while a process downloads the content
// Used only by this program, in a repository's folder:
//   .sae-extract/refs/main      the commit of `main` when this program last asked the Hub
//   .sae-extract/COMMIT.json    this program's listing of COMMIT
//   .sae-extract/ID/….partial   partial downloads of the content
// huggingface_hub stores its listings in `trees/`. It expects all files of such a listing in the snapshot. So this
// program, which downloads only some files, does not use `trees/` for its listings.

import ByteJSON
import Files
import Glibc

/// The part of the cache that belongs to one repository.
struct HubCache: Sendable {
    let reference: RepositoryReference
    /// The path of the repository's folder: `…/models--google--gemma-2-2b`.
    let folder: String
    let root: String
    /// Whether a variable names the root itself (`HF_HUB_CACHE`), not a folder above it (`HF_HOME`). Only then may
    /// the root be another user's symlink.
    let isRootGiven: Bool

    init(_ reference: RepositoryReference, in root: String, isRootGiven: Bool = true) {
        (self.reference, self.root, self.isRootGiven) = (reference, root, isRootGiven)
        folder = "\(root)/\(reference.folderName)"
    }

    // MARK: Revisions

    /// The name of this program's own folder in a repository's folder.
    static let ownName = ".sae-extract"

    var ownFolder: String { "\(folder)/\(HubCache.ownName)" }

    /// The commit of the revision according to the cache; nil if unknown. The commit that was downloaded last takes
    /// precedence over the commit that the Hub has named last.
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

    /// Writes the ref that huggingface_hub reads. Call this function only after the commit's files are in the cache,
    /// because huggingface_hub expects them there if the ref exists. Throws `FileError`.
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

    /// Writes `commit` to the revision's ref in `folder`. For the revision `refs/pr/1`, the ref is in the folder
    /// `refs/pr`; `place` turns the components of this path into a place. Throws `FileError`.
    private func write(_ commit: String, _ folder: String, _ place: ([String]) -> Place) throws {
        guard !reference.isCommit else { return }
        let path = "\(folder)/refs/\(reference.revision)"
        if let file = try? MappedFile(path: path), file.bytes.elementsEqual(commit.utf8) { return }
        let steps = pathSteps(reference.revision)
        try write(Array(commit.utf8), as: steps.last!, in: place(Array(steps.dropLast())))
    }

    /// Creates or replaces the file `name` in `place` in one step: no process sees a part of `content`. Throws
    /// `FileError`.
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

    /// Returns a cached listing of `commit` that no other user can have written; nil if none exists. In another
    /// user's listing, the digests may be wrong.
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

    /// Removes the files of killed processes: temporary files more than an hour old, partial downloads more than a
    /// week old, and partial downloads of contents that are in the cache.
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

    /// Removes the partial downloads of `blob` and their folder, if they are old or `blob` is in the cache. Does
    /// nothing if the folder has other files, which this program has not created.
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

    /// Whether the file at `path` of `commit` exists and has `size` bytes. If `size` is nil, any size counts.
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

    /// Creates the file at `path` of `commit` as a symlink to the blob of `file`. The symlink is relative if
    /// possible, so that the cache can be moved. Throws `FileError`.
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
            // EXDEV: `snapshots` is on another file system, to which no symlink can be moved. So a new symlink is
            // created there.
            guard error.code == EXDEV else { throw error }
            try replace(name, in: target, byLinkTo: content)
        }
        if has(path, of: commit, size: file.size) { return }
        // If `snapshots` is a symlink, the relative symlink leads to a wrong place. An absolute symlink replaces it.
        try replace(name, in: target, byLinkTo: try realPath(self.blob(blob)))
        guard has(path, of: commit, size: file.size) else {
            throw FileError("open", self.file(path, of: commit))
        }
    }
}

/// Whether `code` is an error with which `symlink` fails on a file system without symlinks.
func hasNoLinks(_ code: Int32) -> Bool { [EPERM, EOPNOTSUPP, ENOSYS].contains(code) }
