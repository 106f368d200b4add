// Files of one commit that lie in the cache under another: in a cache that nothing can be added to they are used where they are, if
// their contents are proven to be those of the commit asked for; copies (of a cache without links) become contents of their own.

import ArrayFiles
import Glibc
import Synchronization

extension HubCache {
    /// What keeps this process from adding files of `commit`: no permission, a read-only file system, a full one. Nil where nothing
    /// does. Makes the repository's folders, and nothing else that stays.
    func obstacle(to commit: String) -> FileError? {
        let snapshots = folder + "/snapshots"
        do {
            try makeDirectories(snapshots)
            try makeDirectories(ownFolder)
        } catch {
            return error
        }
        let refusals = [EACCES, EPERM, EROFS]
        for path in [ownFolder, snapshots, snapshot(commit), folder + "/blobs"]
        where access(path, W_OK | X_OK) != 0 && refusals.contains(errno) {
            return FileError("add to", path)
        }
        // A full file system shows in its answers alone. Not where others look: they may be making the same folder.
        let probe = "\(ownFolder)/\(String(UInt64.random(in: .min ... .max), radix: 16)).link"
        defer { unlink(probe) }
        if symlink("nowhere", probe) != 0, !hasNoLinks(errno), errno != ENOENT {
            return FileError("create", probe)
        }
        let folder = probe + ".d"
        defer { rmdir(folder) }
        if mkdir(folder, 0o777) != 0, errno != ENOENT { return FileError("create", folder) }
        return nil
    }

    /// The commits that the cache has files of, the one that the revision is known to be first.
    func commits() -> [String] {
        let all = ((try? directoryContents(folder + "/snapshots")) ?? []).filter { isCommitID($0) }
        let known = commit
        return all.filter { $0 == known } + all.filter { $0 != known }
    }

    /// The commit with the most of the files of `listing`, as far as names and sizes tell, if it has more of them than `commit`.
    func commitToUse(insteadOf commit: String, _ listing: RepositoryListing) -> String? {
        func count(_ commit: String) -> Int {
            listing.files.values.count { has($0.path, of: commit, size: $0.size) }
        }
        var (best, most) = (commit, count(commit))
        for other in commits() where other != commit {
            let count = count(other)
            if count > most { (best, most) = (other, count) }
        }
        return best == commit ? nil : best
    }

    /// Whether the file at `file.path` of `commit` is proven to have the content of `file`: by the name of the blob that
    /// it is a link to, by the commit's listing, or by its hash.
    func isProven(_ file: RepositoryFile, in commit: String) -> Bool {
        guard has(file.path, of: commit, size: file.size) else { return false }
        let path = "\(snapshot(commit))/\(file.path)"
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = readlink(path, &target, target.count)
        if length > 0 {
            let blob = String(
                decoding: target[..<length].map(UInt8.init(bitPattern:)), as: UTF8.self
            ).split(separator: "/").last.map(String.init)
            if blob == file.digest.name { return true }
            // Names of one kind tell contents apart.
            if let blob, isHexadecimal(blob, count: file.digest.name.utf8.count) { return false }
        }
        if let listed = listing(commit)?.files[file.path], listed == file { return true }
        return ContentHash.proof(that: path, is: file) != nil
    }

    /// A file that is not a link to a blob: of a cache that was made where there are no links.
    struct Copy {
        let path: String
        /// What it is, with the digest under which it lies among the blobs.
        let file: RepositoryFile
    }

    /// The copy of `file` in the folder of another commit; nil where there is none with its content.
    func copy(of file: RepositoryFile, notIn commit: String) -> Copy? {
        commits().lazy.filter { $0 != commit }.compactMap { other -> Copy? in
            let path = "\(snapshot(other))/\(file.path)"
            var info = stat()
            guard lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFREG,
                isProven(file, in: other)
            else { return nil }
            guard case .gitBlob = file.digest else { return Copy(path: path, file: file) }
            return ContentHash.proof(that: path, is: file).map { digest in
                Copy(
                    path: path,
                    file: RepositoryFile(path: file.path, size: file.size, digest: digest))
            }
        }.first
    }

    /// Makes a blob of `copy`. Throws `FileError`.
    func makeBlob(of copy: Copy) throws {
        let blob = blob(copy.file.digest.name)
        try makeParentDirectories(of: blob)
        if Glibc.link(copy.path, blob) == 0 || errno == EEXIST { return }
        try makeDirectories(ownFolder)
        let content = try MappedFile(path: copy.path)
        try OutputFile.make(path: blob, temporaryDirectory: ownFolder) {
            try $0.write(content.bytes)
        }
    }

    /// What of the cache cannot be read, and why; nil where all can that there is.
    var unreadable: String? {
        for (path, mode) in [
            (root, R_OK | X_OK), (folder, R_OK | X_OK), (folder + "/snapshots", R_OK | X_OK),
            ("\(folder)/refs/\(reference.revision)", R_OK),
        ] {
            var info = stat()
            let isThere = stat(path, &info) == 0
            if isThere ? access(path, mode) != 0 : errno == EACCES {
                return "\(path): \(String(cString: strerror(errno)))"
            }
        }
        return nil
    }
}

/// The files of an earlier commit that stand for those of the one asked for, in a cache that nothing can be added to.
final class EarlierFiles: Sendable {
    /// The earlier commit.
    let commit: String
    private let cache: HubCache
    /// Whether the content of a file, by its path, is proven equal: looked at once.
    private let proven = Mutex<[String: Bool]>([:])

    init(_ commit: String, in cache: HubCache) {
        (self.commit, self.cache) = (commit, cache)
    }

    /// Whether the earlier commit's file at the path of `file` has its content.
    func have(_ file: RepositoryFile) -> Bool {
        if let known = proven.withLock({ $0[file.path] }) { return known }
        let isProven = cache.isProven(file, in: commit)
        proven.withLock { $0[file.path] = isProven }
        return isProven
    }
}

/// Copies of contents that have no blob, looked for once.
final class Copies: Sendable {
    private let known = Mutex<[String: HubCache.Copy?]>([:])

    /// The copy of `file` in `cache`, in the folder of another commit than `commit`; nil where there is none.
    func copy(of file: RepositoryFile, in cache: HubCache, notIn commit: String) -> HubCache.Copy? {
        if let known = known.withLock({ $0[file.path] }) { return known }
        let copy = cache.copy(of: file, notIn: commit)
        known.withLock { _ = $0.updateValue(copy, forKey: file.path) }
        return copy
    }
}
