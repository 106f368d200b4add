// Finds files of one commit that are in the cache under another commit with proven equal content. They are linked or copied into
// the requested commit's folder. If nothing can be added to the cache, they are used where they are.

import ByteJSON
import Files
import Glibc
import Synchronization

extension HubCache {
    /// Returns why this process cannot add `files` of `commit` to the cache: no permission, a read-only file system, a full one.
    /// Nil if it can add them. Creates the repository's folders; everything else that it creates is removed again.
    func obstacle(
        to commit: String, _ files: [(file: RepositoryFile, isToBeDownloaded: Bool)]
    ) -> FileError? {
        do throws(FileError) {
            let own = try make(.own())
            var places: [Place] = [.own(), .snapshots, .snapshot(commit)]
            for (file, isToBeDownloaded) in files {
                // Another user may have made some of the folders above the file.
                var steps = pathSteps(file.path).dropLast()
                while !steps.isEmpty {
                    places.append(.snapshot(commit, Array(steps)))
                    steps.removeLast()
                }
                if isToBeDownloaded { places += [.blobs, .own([file.digest.name])] }
            }
            try make(.snapshots)
            let refusals = [EACCES, EPERM, EROFS]
            for place in places {
                if let obstacle = try existing(place)?.obstacle, refusals.contains(obstacle.code) {
                    return obstacle
                }
            }
            return probe(own)
        } catch {
            return error
        }
    }

    /// Returns why no link or no folder can be created in `own`; nil if both can. A full file system shows only when something is
    /// created. Nothing is tried in the folders that other processes use: these may be creating the same folder.
    private func probe(_ own: Folder) -> FileError? {
        let name = uniqueName() + ".link"
        let code = own.makeLink(name, to: "nowhere")
        defer { try? own.remove(name) }
        if code != 0, !hasNoLinks(code), code != ENOENT {
            return FileError("create", own.path(of: name), code: code)
        }
        do {
            _ = try own.makeFolder(name + ".d")
            own.removeFolder(name + ".d")
        } catch {
            if error.code != ENOENT { return error }
        }
        return nil
    }

    /// The commits with a folder in the cache. The commit that the cache knows for the revision comes first.
    func commits() -> [String] {
        let all = ((try? directoryContents(folder + "/snapshots")) ?? []).filter { isCommitID($0) }
        let known = commit
        return all.filter { $0 == known } + all.filter { $0 != known }
    }

    /// The commit other than `known` that has all of `paths`, with the listed size if it has a listing. Of several such commits,
    /// the commit with the most files; nil if there is no such commit.
    func commit(having paths: [String], insteadOf known: String?) -> String? {
        var best: (commit: String, count: Int)?
        for other in commits() where other != known {
            let listing = listing(other)
            guard paths.allSatisfy({ has($0, of: other, size: listing?[$0]?.size) }) else {
                continue
            }
            let count = (try? files(of: other).count) ?? 0
            if count > best?.count ?? 0 { best = (other, count) }
        }
        return best?.commit
    }

    /// The name of the blob to which the file at `path` of `commit` links; nil if the file is not a link.
    private func blobName(_ path: String, of commit: String) -> String? {
        linkTarget(file(path, of: commit))?.split(separator: "/").last.map(String.init)
    }

    /// The digest that a blob's name stands for; nil if the name is neither a SHA-256 nor a git id.
    private func digest(_ blob: String) -> RepositoryFile.Digest? {
        if isHexadecimal(blob, count: 64) { return .sha256(blob) }
        return isCommitID(blob) ? .gitBlob(blob) : nil
    }

    /// Whether the file at `file.path` of `commit` is proven to have the content of `file`: by the name of the blob to which it
    /// links, by the commit's listing, or by its hash.
    func isProven(_ file: RepositoryFile, in commit: String, _ contents: CheckedContents) -> Bool {
        guard has(file.path, of: commit, size: file.size) else { return false }
        let path = self.file(file.path, of: commit)
        if let blob = blobName(file.path, of: commit) {
            if blob == file.digest.name { return contents.isWhole(path, file) }
            // Two different names of the same kind belong to different contents.
            if isHexadecimal(blob, count: file.digest.name.utf8.count) { return false }
        }
        if let listed = listing(commit)?[file.path], listed == file {
            return contents.isWhole(path, file)
        }
        return ContentHash.proof(that: path, is: file) != nil
    }

    /// The file that `path` of `commit` must be, by the name of the blob to which it links; nil if `path` is not a link to a
    /// blob.
    func named(_ path: String, of commit: String) -> RepositoryFile? {
        guard let digest = blobName(path, of: commit).flatMap(digest) else { return nil }
        return RepositoryFile(
            path: path, size: fileSize(self.file(path, of: commit)), digest: digest)
    }

    /// A content in the cache that is not stored as the blob that the listing names: a file of a cache that was made without
    /// links, or a content that is stored under another digest than the digest by which a mirror lists it.
    struct Copy {
        let path: String
        /// The commit in whose folder the file is.
        let commit: String
        /// The file, with the digest under which its content is to be stored among the blobs.
        let file: RepositoryFile
    }

    /// Returns a file with the content of `file` in the folder of a commit other than `commit`, where `isProven` is true; nil if
    /// there is no such file.
    func copy(
        of file: RepositoryFile, notIn commit: String,
        isProven: @escaping (RepositoryFile, String) -> Bool
    ) -> Copy? {
        commits().lazy.filter { $0 != commit }.compactMap { other -> Copy? in
            guard isProven(file, other) else { return nil }
            let path = self.file(file.path, of: other)
            func copy(_ digest: RepositoryFile.Digest) -> Copy {
                Copy(
                    path: path, commit: other,
                    file: RepositoryFile(path: file.path, size: file.size, digest: digest))
            }
            if let blob = blobName(file.path, of: other), let digest = digest(blob),
                fileExists(self.blob(blob))
            {
                return copy(digest)
            }
            guard case .gitBlob = file.digest else { return copy(file.digest) }
            return ContentHash.proof(that: path, is: file).map(copy)
        }.first
    }

    /// Creates a blob from `copy`, if it does not exist. Throws `FileError`.
    func makeBlob(of copy: Copy) throws {
        let blob = copy.file.digest.name
        let blobs = try make(.blobs)
        if fileExists(self.blob(blob)), fileSize(self.blob(blob)) == copy.file.size { return }
        let (place, name) = place(of: copy.file.path, of: copy.commit)
        guard let folder = try existing(place), try folder.isFile(name) else {
            throw FileError("open", copy.path, code: ENOENT)
        }
        if [0, EEXIST].contains(folder.link(name, as: blob, in: blobs)) { return }
        try self.copy(name, from: folder, to: blob, in: blobs)
    }

    /// The first of these paths that exists and cannot be read, and the reason: the cache's root, the repository's folder, that
    /// folder's `snapshots`, the revision's ref. Nil if there is no such path.
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

/// Remembers the results of searches for contents under other commits, so that each file is examined only once.
final class KnownContents: Sendable {
    private let cache: HubCache
    private let contents: CheckedContents
    private let proven = Mutex<[ExactString: Bool]>([:])
    private let copies = Mutex<[ExactString: HubCache.Copy?]>([:])

    init(_ cache: HubCache, _ contents: CheckedContents) {
        (self.cache, self.contents) = (cache, contents)
    }

    /// Whether the file of `commit` at the path of `file` is proven to have the content of `file`.
    func isProven(_ file: RepositoryFile, in commit: String) -> Bool {
        let key = ExactString("\(commit)/\(file.path)")
        if let known = proven.withLock({ $0[key] }) { return known }
        let isProven = cache.isProven(file, in: commit, contents)
        proven.withLock { $0[key] = isProven }
        return isProven
    }

    /// Returns a file with the content of `file` in the folder of a commit other than `commit`; nil if there is no such file.
    func copy(of file: RepositoryFile, notIn commit: String) -> HubCache.Copy? {
        let key = ExactString(file.path)
        if let known = copies.withLock({ $0[key] }) { return known }
        let copy = cache.copy(of: file, notIn: commit) { self.isProven($0, in: $1) }
        copies.withLock { _ = $0.updateValue(copy, forKey: key) }
        return copy
    }
}
