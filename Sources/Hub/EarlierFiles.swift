// Finds files of one commit that the cache has under another commit. The contents must be proven to be equal. Such
// files are not downloaded, but linked or copied into the folder of the requested commit. If the cache cannot be
// written, they are read from the folder of the other commit.

import ByteJSON
import Files
import Glibc
import Synchronization

extension HubCache {
    /// Returns the reason why this process cannot add `files` of `commit` to the cache, such as a missing permission
    /// or a full file system. Nil if it can. Creates the repository's folders. Also creates test entries and removes
    /// them.
    func obstacle(
        to commit: String, _ files: [(file: RepositoryFile, isToBeDownloaded: Bool)]
    ) -> FileError? {
        do throws(FileError) {
            let own = try make(.own())
            var places: [Place] = [.own(), .snapshots, .snapshot(commit)]
            for (file, isToBeDownloaded) in files {
                // Checks all folders above the file, because another user may have created some of them.
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

    /// Tries to create a symlink and a folder in `own`, because only an attempt shows that a file system is full.
    /// Returns the reason if an attempt fails, otherwise nil. A file system without symlinks is no reason.
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

    /// Returns the commits that have a folder in the cache. The revision's commit comes first, if the cache knows it.
    func commits() -> [String] {
        let all = ((try? directoryContents(folder + "/snapshots")) ?? []).filter { isCommitID($0) }
        let known = commit
        return all.filter { $0 == known } + all.filter { $0 != known }
    }

    /// Returns a commit other than `known` whose folder has all of `paths`, with the sizes in the commit's listing if
    /// a listing exists. Of several such commits, returns the one with the most files. Nil if none exists.
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

    /// Returns the name of the blob to which the file at `path` of `commit` links; nil if the file is not a symlink.
    private func blobName(_ path: String, of commit: String) -> String? {
        linkTarget(file(path, of: commit))?.split(separator: "/").last.map(String.init)
    }

    /// Returns the digest for the name of a blob; nil if the name is neither a SHA-256 nor a git id.
    private func digest(_ blob: String) -> RepositoryFile.Digest? {
        if isHexadecimal(blob, count: 64) { return .sha256(blob) }
        return isCommitID(blob) ? .gitBlob(blob) : nil
    }

    /// Whether the file at `file.path` of `commit` is proven to have the content of `file`: by the name of its blob,
    /// by the listing of `commit`, or by a hash.
    func isProven(_ file: RepositoryFile, in commit: String, _ contents: CheckedContents) -> Bool {
        guard has(file.path, of: commit, size: file.size) else { return false }
        let path = self.file(file.path, of: commit)
        if let blob = blobName(file.path, of: commit) {
            if blob == file.digest.name { return contents.isWhole(path, file) }
            // If the blob's name and the digest of `file` have the same length, both are SHA-256 or both are git ids.
            // Then different names mean different contents.
            if isHexadecimal(blob, count: file.digest.name.utf8.count) { return false }
        }
        if let listed = listing(commit)?[file.path], listed == file {
            return contents.isWhole(path, file)
        }
        return ContentHash.proof(that: path, is: file) != nil
    }

    /// Returns the file at `path` of `commit`. Its digest is the name of its blob, and is not checked against the
    /// content. Nil if `path` is not a symlink to a blob.
    func named(_ path: String, of commit: String) -> RepositoryFile? {
        guard let digest = blobName(path, of: commit).flatMap(digest) else { return nil }
        return RepositoryFile(
            path: path, size: fileSize(self.file(path, of: commit)), digest: digest)
    }

    /// A content that the cache has, but not in the blob that the listing names. Either the snapshots have files in
    /// place of symlinks, or a mirror lists another digest than the blob's name.
    struct Copy {
        let path: String
        /// The commit whose folder contains the file.
        let commit: String
        /// The file, with the digest that names its blob.
        let file: RepositoryFile
    }

    /// Returns a file with the content of `file` in the folder of a commit other than `commit`; nil if none exists.
    /// `isProven` says whether the file of a given commit has the content of a given file.
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

    /// Creates a blob from `copy`, if the blob does not exist. Throws `FileError`.
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

    /// The first of these paths that exists and cannot be read, with the reason: the cache's root, the repository's
    /// folder, its subfolder `snapshots`, the revision's ref. Nil if all can be read.
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

/// Remembers the results of searches in the folders of other commits, so that each file is examined only once.
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

    /// Returns a file with the content of `file` in the folder of a commit other than `commit`; nil if none exists.
    func copy(of file: RepositoryFile, notIn commit: String) -> HubCache.Copy? {
        let key = ExactString(file.path)
        if let known = copies.withLock({ $0[key] }) { return known }
        let copy = cache.copy(of: file, notIn: commit) { self.isProven($0, in: $1) }
        copies.withLock { _ = $0.updateValue(copy, forKey: key) }
        return copy
    }
}
