// Files of one commit that lie in the cache under another: where nothing can be added to the cache they are used where they are, if
// their contents are proven to be those of the commit asked for; else they are linked or copied under it.

import ByteJSON
import Files
import Glibc
import Synchronization

extension HubCache {
    /// What keeps this process from adding `files` of `commit`: no permission, a read-only file system, a full one. Nil where nothing
    /// does. Makes the repository's folders, and nothing else that stays.
    func obstacle(
        to commit: String, _ files: [(file: RepositoryFile, isToBeDownloaded: Bool)]
    ) -> FileError? {
        do throws(FileError) {
            let own = try make(.own())
            var places: [Place] = [.own(), .snapshots, .snapshot(commit)]
            for (file, isToBeDownloaded) in files {
                // Others may have made some of the folders on the way.
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

    /// Why no link and no folder can be made in `own`; nil where they can: a full file system shows in its answers alone. Not where
    /// others look: they may be making the same folder.
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

    /// The commits that the cache has files of, the one that the revision is known to be first.
    func commits() -> [String] {
        let all = ((try? directoryContents(folder + "/snapshots")) ?? []).filter { isCommitID($0) }
        let known = commit
        return all.filter { $0 == known } + all.filter { $0 != known }
    }

    /// Of the commits that have all of `paths`, as far as is known whole, the one with the most files; nil where none but `known` has.
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

    /// The name of the blob that the file at `path` of `commit` is a link to; nil where it is none.
    private func blobName(_ path: String, of commit: String) -> String? {
        linkTarget(file(path, of: commit))?.split(separator: "/").last.map(String.init)
    }

    /// The digest that a blob's name says; nil where it says none.
    private func digest(_ blob: String) -> RepositoryFile.Digest? {
        if isHexadecimal(blob, count: 64) { return .sha256(blob) }
        return isCommitID(blob) ? .gitBlob(blob) : nil
    }

    /// Whether the file at `file.path` of `commit` is proven to have the content of `file`: by the name of the blob that
    /// it is a link to, by the commit's listing, or by its hash.
    func isProven(_ file: RepositoryFile, in commit: String, _ contents: CheckedContents) -> Bool {
        guard has(file.path, of: commit, size: file.size) else { return false }
        let path = self.file(file.path, of: commit)
        if let blob = blobName(file.path, of: commit) {
            if blob == file.digest.name { return contents.isWhole(path, file) }
            // Names of one kind tell contents apart.
            if isHexadecimal(blob, count: file.digest.name.utf8.count) { return false }
        }
        if let listed = listing(commit)?[file.path], listed == file {
            return contents.isWhole(path, file)
        }
        return ContentHash.proof(that: path, is: file) != nil
    }

    /// What the file at `path` of `commit` must be by the name of the blob that it is a link to; nil where that says nothing.
    func named(_ path: String, of commit: String) -> RepositoryFile? {
        guard let digest = blobName(path, of: commit).flatMap(digest) else { return nil }
        return RepositoryFile(
            path: path, size: fileSize(self.file(path, of: commit)), digest: digest)
    }

    /// A content that the listing has no name of a blob for: a file of a cache that was made where there are no links, or one
    /// that a mirror lists by another digest than that it lies under.
    struct Copy {
        let path: String
        /// The commit that it lies under.
        let commit: String
        /// What it is, with the digest under which it lies among the blobs.
        let file: RepositoryFile
    }

    /// The content of `file` in the folder of another commit, where `isProven` says that it is; nil where there is none.
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

    /// Makes a blob of `copy`, if there is none. Throws `FileError`.
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

/// What has been found of contents under other commits than a snapshot's own: each is looked at once.
final class KnownContents: Sendable {
    private let cache: HubCache
    private let contents: CheckedContents
    private let proven = Mutex<[ExactString: Bool]>([:])
    private let copies = Mutex<[ExactString: HubCache.Copy?]>([:])

    init(_ cache: HubCache, _ contents: CheckedContents) {
        (self.cache, self.contents) = (cache, contents)
    }

    /// Whether the file at the path of `file` of `commit` is proven to have its content.
    func isProven(_ file: RepositoryFile, in commit: String) -> Bool {
        let key = ExactString("\(commit)/\(file.path)")
        if let known = proven.withLock({ $0[key] }) { return known }
        let isProven = cache.isProven(file, in: commit, contents)
        proven.withLock { $0[key] = isProven }
        return isProven
    }

    /// The content of `file` in the folder of another commit than `commit`; nil where there is none.
    func copy(of file: RepositoryFile, notIn commit: String) -> HubCache.Copy? {
        let key = ExactString(file.path)
        if let known = copies.withLock({ $0[key] }) { return known }
        let copy = cache.copy(of: file, notIn: commit) { self.isProven($0, in: $1) }
        copies.withLock { _ = $0.updateValue(copy, forKey: key) }
        return copy
    }
}
