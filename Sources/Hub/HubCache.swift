// Hugging Face's cache folder, shared with Python's huggingface_hub (file_download.py):
//   models--google--gemma-2-2b/refs/main                  the commit that `main` was when its files were downloaded
//   models--google--gemma-2-2b/snapshots/COMMIT/…         symlinks to blobs, by the repository's paths
//   models--google--gemma-2-2b/blobs/ID                   contents, named by SHA-256 or git's id
//   .locks/models--google--gemma-2-2b/ID.lock             taken (flock) while ID is downloaded
// and, ours alone, within a repository's folder:
//   .sae-extract/refs/main                                the commit that `main` was last seen at, whatever there is of it
//   .sae-extract/COMMIT.json                              its listing. Not in `trees/`, where huggingface_hub keeps its own:
//                                                         it takes a snapshot for incomplete that lacks a file listed there
//   .sae-extract/ID/….partial                             downloads under way or broken off

import ByteJSON
import Files
import Glibc

/// One repository's part of the cache.
struct HubCache: Sendable {
    let reference: RepositoryReference
    /// `…/models--google--gemma-2-2b`.
    let folder: String
    let root: String
    /// Whether a user has given the root itself, as which any link will do, and not the folder that it is in.
    let isRootGiven: Bool

    init(_ reference: RepositoryReference, in root: String, isRootGiven: Bool = true) {
        (self.reference, self.root, self.isRootGiven) = (reference, root, isRootGiven)
        folder = "\(root)/\(reference.folderName)"
    }

    // MARK: Revisions

    /// The name of our own folder in a repository's.
    static let ownName = ".sae-extract"

    var ownFolder: String { "\(folder)/\(HubCache.ownName)" }

    /// The commit that the revision is, as far as the cache knows: one that somebody has downloaded, else one that has been
    /// seen.
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

    /// Writes down what commit the revision is, now that files of it are there: huggingface_hub takes its being written down
    /// for that. Throws `FileError`.
    func setCommit(_ commit: String) throws {
        try make(.snapshot(commit))
        try write(commit, folder) { .references($0) }
    }

    /// Writes down what commit the revision was seen at. Throws `FileError`.
    func noteCommit(_ commit: String) throws {
        // huggingface_hub warns of a repository without this folder.
        try make(.snapshots)
        try write(commit, ownFolder) { .own(["refs"] + $0) }
    }

    /// Writes down, below `folder`, what commit the revision is. `place` is that of the folders that its name has.
    private func write(_ commit: String, _ folder: String, _ place: ([String]) -> Place) throws {
        guard !reference.isCommit else { return }
        let path = "\(folder)/refs/\(reference.revision)"
        if let file = try? MappedFile(path: path), file.bytes.elementsEqual(commit.utf8) { return }
        let steps = pathSteps(reference.revision)
        try write(Array(commit.utf8), as: steps.last!, in: place(Array(steps.dropLast())))
    }

    /// Makes the file called `name` in `place` of `content`: it appears whole or not at all. Throws `FileError`.
    private func write(_ content: [UInt8], as name: String, in place: Place) throws {
        let target = try make(place)
        // Not beside its place: every file there counts as a reference.
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

    /// Where the listing of `commit` is kept.
    func listingPath(_ commit: String) -> String { "\(ownFolder)/\(commit).json" }

    /// The same, and where huggingface_hub keeps it.
    private func listingPaths(_ commit: String) -> [String] {
        [listingPath(commit), "\(folder)/trees/\(commit).json"]
    }

    /// The cached listing of `commit`.
    func listing(_ commit: String) -> RepositoryListing? {
        listingPaths(commit).lazy.compactMap { RepositoryListing(path: $0) }.first
    }

    /// The cached listing of `commit` that nobody but this user can have written; nil where there is none. By another one somebody
    /// could say what contents must be.
    func ownListing(_ commit: String, _ contents: CheckedContents) -> RepositoryListing? {
        listingPaths(commit).lazy.filter { contents.isOwn($0) }
            .compactMap { RepositoryListing(path: $0) }.first
    }

    /// Keeps the listing of `commit`. Throws `FileError`.
    func store(_ listing: RepositoryListing, of commit: String) throws {
        try make(.snapshots)
        var text: [UInt8] = []
        JSONText.append(listing.json, to: &text)
        try write(text, as: "\(commit).json", in: .own())
    }

    /// Removes what processes that were killed have left, as far as nobody can need it any more: small files that were
    /// begun an hour ago, and parts of contents that are there or that nobody has gone on with for a week.
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

    /// Removes the parts of `blob` that nobody can need any more, and their folder, unless it has something else in it: then it is
    /// not one of ours.
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

    /// The folder that a commit's files seem to lie in.
    func snapshot(_ commit: String) -> String { "\(folder)/snapshots/\(commit)" }

    /// Where the file at `path` of `commit` lies or will lie.
    func file(_ path: String, of commit: String) -> String { "\(snapshot(commit))/\(path)" }

    /// How deep the folders may be that are gone through: those of repositories are not.
    private static let maximumDepth = 64

    /// The paths of the files that the cache has of `commit`, sorted. Throws `FileError`.
    func files(of commit: String) throws -> [String] {
        // Folders are entered through no link: two that lead back to where they lie would have paths without end.
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

    /// Whether the file at `path` of `commit` is there, with `size` where that is known. One that was cut short is not.
    func has(_ path: String, of commit: String, size: Int?) -> Bool {
        let file = file(path, of: commit)
        guard fileExists(file), !isDirectory(file) else { return false }
        return size.map { fileSize(file) == $0 } ?? true
    }

    /// Where the content named `blob` lies or will lie.
    func blob(_ name: String) -> String { "\(folder)/blobs/\(name)" }

    /// A download that is under way or was broken off.
    struct Partial {
        /// In the folder of the content's downloads.
        let name: String
        let size: Int
        /// Seconds since it was written to.
        let age: Int
    }

    /// The downloads of `blob` that are under way or were broken off.
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

    /// Makes the file at `path` of `commit` appear, with the content of `file`: a relative symlink, as the cache may be moved.
    /// Throws `FileError`.
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
            // A file system without symlinks: the content itself goes there, as huggingface_hub does it.
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
        // Where `snapshots` is a link itself, the way back leads elsewhere.
        try replace(name, in: target, byLinkTo: try realPath(self.blob(blob)))
        guard has(path, of: commit, size: file.size) else {
            throw FileError("open", self.file(path, of: commit))
        }
    }
}

/// Whether this is how `symlink` fails on a file system without links.
func hasNoLinks(_ code: Int32) -> Bool { [EPERM, EOPNOTSUPP, ENOSYS].contains(code) }
