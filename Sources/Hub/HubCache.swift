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

import ArrayFiles
import ByteJSON
import Glibc

/// One repository's part of the cache.
struct HubCache: Sendable {
    let reference: RepositoryReference
    /// `…/models--google--gemma-2-2b`.
    let folder: String
    let root: String

    init(_ reference: RepositoryReference, in root: String) {
        (self.reference, self.root) = (reference, root)
        folder = "\(root)/\(reference.folderName)"
    }

    // MARK: Revisions

    var ownFolder: String { folder + "/.sae-extract" }

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
        try makeDirectories(snapshot(commit))
        try write(commit, in: folder)
    }

    /// Writes down what commit the revision was seen at. Throws `FileError`.
    func noteCommit(_ commit: String) throws {
        // huggingface_hub warns of a repository without this folder.
        try makeDirectories(folder + "/snapshots")
        try write(commit, in: ownFolder)
    }

    private func write(_ commit: String, in folder: String) throws {
        guard !reference.isCommit else { return }
        let path = "\(folder)/refs/\(reference.revision)"
        if let file = try? MappedFile(path: path), file.bytes.elementsEqual(commit.utf8) { return }
        try makeParentDirectories(of: path)
        // Not beside its place: every file there counts as a reference.
        try makeDirectories(ownFolder)
        try OutputFile.make(path: path, temporaryDirectory: ownFolder) {
            try $0.write(Array(commit.utf8))
        }
    }

    // MARK: Listings

    /// The cached listing of `commit`.
    func listing(_ commit: String) -> RepositoryListing? {
        RepositoryListing(path: "\(ownFolder)/\(commit).json")
            ?? RepositoryListing(path: "\(folder)/trees/\(commit).json")
    }

    /// Keeps the listing of `commit`. Throws `FileError`.
    func store(_ listing: RepositoryListing, of commit: String) throws {
        try makeDirectories(folder + "/snapshots")
        try makeDirectories(ownFolder)
        var text: [UInt8] = []
        JSONText.append(listing.json, to: &text)
        try OutputFile.make(path: "\(ownFolder)/\(commit).json", temporaryDirectory: ownFolder) {
            try $0.write(text)
        }
    }

    /// Removes what processes that were killed have left, as far as nobody can need it any more: small files that were
    /// begun an hour ago, and parts of contents that are there or that nobody has gone on with for a week.
    func tidy() {
        for name in (try? directoryContents(ownFolder)) ?? [] {
            let path = "\(ownFolder)/\(name)"
            if isDirectory(path) {
                let isOld = earlierPartials(name).allSatisfy { $0.age > 7 * 86400 }
                if name != "refs", fileExists(blob(name)) || isOld { try? removeTree(path) }
            } else if name.hasSuffix(".partial") || name.hasSuffix(".link") {
                var info = stat()
                if lstat(path, &info) == 0, time(nil) - info.st_mtim.tv_sec > 3600 { unlink(path) }
            }
        }
    }

    // MARK: Files

    /// The folder that a commit's files seem to lie in.
    func snapshot(_ commit: String) -> String { "\(folder)/snapshots/\(commit)" }

    /// The paths of the files that the cache has of `commit`, sorted. Throws `FileError`.
    func files(of commit: String) throws -> [String] {
        func walk(_ path: String, _ prefix: String) throws -> [String] {
            try directoryContents(path).flatMap { name in
                let inner = "\(path)/\(name)"
                if isDirectory(inner) { return try walk(inner, "\(prefix)\(name)/") }
                return fileExists(inner) ? [prefix + name] : []
            }
        }
        let root = snapshot(commit)
        return isDirectory(root) ? try walk(root, "") : []
    }

    /// Whether the file at `path` of `commit` is there, with `size` where that is known. One that was cut short is not.
    func has(_ path: String, of commit: String, size: Int?) -> Bool {
        let file = "\(snapshot(commit))/\(path)"
        guard fileExists(file), !isDirectory(file) else { return false }
        return size.map { fileSize(file) == $0 } ?? true
    }

    /// Where the content named `blob` lies or will lie.
    func blob(_ name: String) -> String { "\(folder)/blobs/\(name)" }

    /// The folder of the downloads of `blob` that are under way or were broken off.
    func partials(_ blob: String) -> String { "\(ownFolder)/\(blob)" }

    /// A download that is under way or was broken off.
    struct Partial {
        let path: String
        let size: Int
        /// Seconds since it was written to.
        let age: Int
    }

    /// The downloads of `blob` that are under way or were broken off.
    func earlierPartials(_ blob: String) -> [Partial] {
        ((try? directoryContents(partials(blob))) ?? []).compactMap { name in
            let path = "\(partials(blob))/\(name)"
            var info = stat()
            guard name.hasSuffix(".partial"), stat(path, &info) == 0,
                info.st_mode & S_IFMT == S_IFREG
            else { return nil }
            return Partial(
                path: path, size: Int(info.st_size), age: time(nil) - info.st_mtim.tv_sec)
        }
    }

    /// The file that whoever downloads `blob` holds a lock on.
    func lock(_ blob: String) -> String { "\(root)/.locks/\(reference.folderName)/\(blob).lock" }

    /// Makes the file at `path` of `commit` appear, with the content of `file`: a relative symlink, as the cache may be moved.
    /// Throws `FileError`.
    func link(_ path: String, of commit: String, to file: RepositoryFile) throws {
        let blob = file.digest.name
        let target = "\(snapshot(commit))/\(path)"
        try makeParentDirectories(of: target)
        let steps = path.utf8.count { $0 == UInt8(ascii: "/") } + 2
        let content = String(repeating: "../", count: steps) + "blobs/\(blob)"
        try makeDirectories(ownFolder)
        let temporary = "\(ownFolder)/\(String(UInt64.random(in: .min ... .max), radix: 16)).link"
        guard symlink(content, temporary) == 0 else {
            // A file system without symlinks: the content itself goes there, as huggingface_hub does it.
            guard hasNoLinks(errno) else {
                throw FileError("create", temporary)
            }
            guard rename(self.blob(blob), target) == 0 || fileExists(target) else {
                throw FileError("rename", target)
            }
            return
        }
        if rename(temporary, target) != 0 {
            let error = FileError("rename", target)
            unlink(temporary)
            // `snapshots` may be a link to another file system.
            guard error.code == EXDEV else { throw error }
            try replace(target, byLinkTo: content)
        }
        if has(path, of: commit, size: file.size) { return }
        // Where `snapshots` is a link itself, the way back leads elsewhere.
        try replace(target, byLinkTo: try realPath(self.blob(blob)))
        guard has(path, of: commit, size: file.size) else { throw FileError("open", target) }
    }
}

/// Whether this is how `symlink` fails on a file system without links.
func hasNoLinks(_ code: Int32) -> Bool { [EPERM, EOPNOTSUPP, ENOSYS].contains(code) }
