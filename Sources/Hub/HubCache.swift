// Hugging Face's cache folder, shared with Python's huggingface_hub (file_download.py):
//   models--google--gemma-2-2b/refs/main                  the commit of `main` when its files were downloaded
//   models--google--gemma-2-2b/snapshots/COMMIT/…         symlinks to blobs, by the paths in the repository
//   models--google--gemma-2-2b/blobs/ID                   contents, named by SHA-256 or git's id
//   .locks/models--google--gemma-2-2b/ID.lock             locked (flock) while ID is downloaded
// Used only by this program, in a repository's folder:
//   .sae-extract/refs/main                                the commit of `main` when the Hub was last asked
//   .sae-extract/COMMIT.json                              the commit's listing. It is not in `trees/`, where huggingface_hub
//                                                         keeps its own: huggingface_hub takes a snapshot for incomplete
//                                                         that lacks a file listed there
//   .sae-extract/ID/….partial                             partial downloads of ID, in progress or broken off

import ByteJSON
import Files
import Glibc

/// One repository's part of the cache.
struct HubCache: Sendable {
    let reference: RepositoryReference
    /// `…/models--google--gemma-2-2b`.
    let folder: String
    let root: String
    /// Whether the user has given the root itself, which may be any link then. False if the user has given a folder above it.
    let isRootGiven: Bool

    init(_ reference: RepositoryReference, in root: String, isRootGiven: Bool = true) {
        (self.reference, self.root, self.isRootGiven) = (reference, root, isRootGiven)
        folder = "\(root)/\(reference.folderName)"
    }

    // MARK: Revisions

    /// The name of our own folder in a repository's folder.
    static let ownName = ".sae-extract"

    var ownFolder: String { "\(folder)/\(HubCache.ownName)" }

    /// The commit of the revision as far as the cache knows: the one that somebody has downloaded, otherwise the one that was
    /// last seen. Nil if neither is known.
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

    /// Records which commit the revision is, now that its files are in the cache: huggingface_hub concludes from the ref that
    /// they are. Throws `FileError`.
    func setCommit(_ commit: String) throws {
        try make(.snapshot(commit))
        try write(commit, folder) { .references($0) }
    }

    /// Records at which commit the revision was last seen. Throws `FileError`.
    func noteCommit(_ commit: String) throws {
        // huggingface_hub warns about a repository without this folder.
        try make(.snapshots)
        try write(commit, ownFolder) { .own(["refs"] + $0) }
    }

    /// Writes `commit` to the revision's ref below `folder`. `place` returns the place of the ref, given the folders in the
    /// revision's name. Throws `FileError`.
    private func write(_ commit: String, _ folder: String, _ place: ([String]) -> Place) throws {
        guard !reference.isCommit else { return }
        let path = "\(folder)/refs/\(reference.revision)"
        if let file = try? MappedFile(path: path), file.bytes.elementsEqual(commit.utf8) { return }
        let steps = pathSteps(reference.revision)
        try write(Array(commit.utf8), as: steps.last!, in: place(Array(steps.dropLast())))
    }

    /// Creates or replaces the file `name` in `place` with `content`. It appears whole or not at all. Throws `FileError`.
    private func write(_ content: [UInt8], as name: String, in place: Place) throws {
        let target = try make(place)
        // The temporary file is not in `target`: every file there counts as a ref.
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

    /// The path of our listing of `commit`.
    func listingPath(_ commit: String) -> String { "\(ownFolder)/\(commit).json" }

    /// The paths of our listing and of huggingface_hub's.
    private func listingPaths(_ commit: String) -> [String] {
        [listingPath(commit), "\(folder)/trees/\(commit).json"]
    }

    /// The cached listing of `commit`; nil if there is none that can be read.
    func listing(_ commit: String) -> RepositoryListing? {
        listingPaths(commit).lazy.compactMap { RepositoryListing(path: $0) }.first
    }

    /// The cached listing of `commit` that only this user can have written; nil if there is none. In any other listing, somebody
    /// could state wrong digests.
    func ownListing(_ commit: String, _ contents: CheckedContents) -> RepositoryListing? {
        listingPaths(commit).lazy.filter { contents.isOwn($0) }
            .compactMap { RepositoryListing(path: $0) }.first
    }

    /// Stores the listing of `commit`. Throws `FileError`.
    func store(_ listing: RepositoryListing, of commit: String) throws {
        try make(.snapshots)
        var text: [UInt8] = []
        JSONText.append(listing.json, to: &text)
        try write(text, as: "\(commit).json", in: .own())
    }

    /// Removes what killed processes have left, if nobody can need it any more: small files that are more than an hour old, and
    /// partial downloads of contents that are in the cache or that nobody has continued for a week.
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

    /// Removes the partial downloads of `blob` and their folder, if nobody can need them any more. Does nothing if the folder has
    /// other files: then this program has not made it.
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

    /// The path of the snapshot of `commit`: the folder in which its files appear, as links to blobs.
    func snapshot(_ commit: String) -> String { "\(folder)/snapshots/\(commit)" }

    /// The path of the file `path` of `commit`, whether it exists or not.
    func file(_ path: String, of commit: String) -> String { "\(snapshot(commit))/\(path)" }

    /// Most levels of folders that are searched. No repository has as many.
    private static let maximumDepth = 64

    /// The paths of the files of `commit` that are in the cache, sorted. Throws `FileError`.
    func files(of commit: String) throws -> [String] {
        // Links to folders are not followed: two that lead back to their own folder would give paths without end.
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

    /// Whether the file at `path` of `commit` exists and has `size` bytes, if the size is known. A file that was cut short does
    /// not count.
    func has(_ path: String, of commit: String, size: Int?) -> Bool {
        let file = file(path, of: commit)
        guard fileExists(file), !isDirectory(file) else { return false }
        return size.map { fileSize(file) == $0 } ?? true
    }

    /// The path of the content named `blob`, whether it exists or not.
    func blob(_ name: String) -> String { "\(folder)/blobs/\(name)" }

    /// A partial download, in progress or broken off.
    struct Partial {
        /// The file's name in the folder of the content's partial downloads.
        let name: String
        let size: Int
        /// Seconds since the last write.
        let age: Int
    }

    /// The partial downloads of `blob`, in progress or broken off.
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

    /// Creates the file at `path` of `commit` as a symlink to the content of `file`. The link is relative, because the cache may
    /// be moved. Throws `FileError`.
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
            // On a file system without symlinks, the content itself is moved there, as huggingface_hub does.
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
            // `snapshots` may be a link to another file system.
            guard error.code == EXDEV else { throw error }
            try replace(name, in: target, byLinkTo: content)
        }
        if has(path, of: commit, size: file.size) { return }
        // If `snapshots` is a link itself, the relative link leads elsewhere: replace it by an absolute one.
        try replace(name, in: target, byLinkTo: try realPath(self.blob(blob)))
        guard has(path, of: commit, size: file.size) else {
            throw FileError("open", self.file(path, of: commit))
        }
    }
}

/// Whether `code` is an error by which `symlink` fails on a file system without symlinks.
func hasNoLinks(_ code: Int32) -> Bool { [EPERM, EOPNOTSUPP, ENOSYS].contains(code) }
