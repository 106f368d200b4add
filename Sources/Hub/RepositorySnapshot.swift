// The state of a repository at one commit, and requests for its files.

import ByteJSON
import Files
import Glibc

/// The state of a repository at one commit, with the cache that has its files.
package struct RepositorySnapshot: Sendable {
    /// The repository and the requested revision.
    package let reference: RepositoryReference
    /// The commit whose folder has the files: `current`, or `other` if it is set.
    package var commit: String { other ?? current }
    /// The commit of the revision: 40 hexadecimal digits.
    package let current: String
    let cache: HubCache
    /// The list of the commit's files; nil if only the files in the cache are known.
    var listing: RepositoryListing?
    /// The reason why nothing can be downloaded; nil if downloads are possible.
    let isolation: String?
    /// The reason why missing files cannot be added to the cache; nil if they can be added, or if no file is missing.
    var obstacle: FileError?
    /// Another commit whose files are proven to be equal. It is used only if missing files cannot be added to the
    /// cache; otherwise nil.
    var other: String?
    /// Tells which contents of the cache are complete and correct.
    let contents: CheckedContents
    /// Finds equal files in the folders of other commits.
    let others: KnownContents

    init(
        _ reference: RepositoryReference, at commit: String, in cache: HubCache,
        _ listing: RepositoryListing?, _ contents: CheckedContents, isolation: String? = nil
    ) {
        (self.reference, current, self.cache) = (reference, commit, cache)
        (self.listing, self.contents, self.isolation) = (listing, contents, isolation)
        others = KnownContents(cache, contents)
    }

    /// Whether the data of the dataset's card is known.
    package var isCardKnown: Bool { listing?.card != nil }

    /// Whether all files of the commit are known, not only the files in the cache.
    package var isListed: Bool { listing != nil }

    /// Whether the Hub cannot be asked and no file can be downloaded.
    package var isIsolated: Bool { isolation != nil }

    /// The path of the folder that contains the commit's files. The folder may not exist yet.
    package var folder: String { cache.snapshot(commit) }

    /// Returns the paths of the commit's files. Without a listing, returns those in the cache. Throws `FileError`.
    package func paths() throws -> [String] {
        try listing.map(\.paths) ?? cache.files(of: commit)
    }

    /// Whether the file at `path` exists in the repository. If no listing is known, only files in the cache count.
    package func contains(_ path: String) -> Bool {
        listing.map { $0[path] != nil } ?? cache.has(path, of: current, size: nil)
    }

    /// Whether the file at `path` is in the cache, complete and correct.
    package func isCached(_ path: String) -> Bool { isCached(path, trustingNobody: false) }

    private func isCached(_ path: String, trustingNobody: Bool) -> Bool {
        let file = listing?[path]
        if let other { return file.map { others.isProven($0, in: other) } ?? false }
        guard cache.has(path, of: current, size: file?.size) else { return false }
        // Without a listing, the expected digest is the name of the blob to which the file links.
        guard let expected = file ?? cache.named(path, of: current) else { return true }
        return contents.isWhole(
            cache.file(path, of: current), expected, trustingNobody: trustingNobody)
    }

    /// If the file at `path` has the expected size and a wrong hash, returns the path of its content; otherwise nil.
    /// For `trustingNobody` see `CheckedContents.isWhole`.
    func damaged(_ path: String, trustingNobody: Bool = false) -> String? {
        guard other == nil, !isCached(path, trustingNobody: trustingNobody),
            cache.has(path, of: current, size: listing?[path]?.size)
        else { return nil }
        return (try? cache.realPath(cache.file(path, of: current))) ?? path
    }

    /// Whether the content of the file at `path` is in the cache, perhaps under another commit or path.
    package func hasContent(_ path: String) -> Bool {
        guard let file = listing?[path] else { return isCached(path) }
        return isCached(path) || hasBlob(file) || others.copy(of: file, notIn: current) != nil
    }

    private func hasBlob(_ file: RepositoryFile) -> Bool {
        contents.isWhole(cache.blob(file.digest.name), file)
    }

    /// Creates the file at `path` in the snapshot. Its content must already be in the cache. Throws `FileError`.
    func place(_ file: RepositoryFile, at path: String) throws {
        if !hasBlob(file), let copy = others.copy(of: file, notIn: current) {
            try cache.makeBlob(of: copy)
            return try cache.link(path, of: current, to: copy.file)
        }
        try cache.link(path, of: current, to: file)
    }

    /// The size of the file at `path` in bytes.
    package func size(_ path: String) -> Int {
        listing?[path]?.size ?? fileSize("\(folder)/\(path)")
    }
}

/// A request for files of one snapshot that must be in the cache.
package struct HubRequest: Sendable {
    /// The snapshot to which the files belong.
    package let snapshot: RepositorySnapshot
    /// The paths of the requested files.
    package let paths: [String]

    /// All paths that the caller wants from the repository. `paths` may be a part of them.
    let wanted: [String]

    /// Creates a request for `paths` of `snapshot`.
    package init(_ snapshot: RepositorySnapshot, _ paths: [String]) {
        self.init(snapshot, paths, of: paths)
    }

    init(_ snapshot: RepositorySnapshot, _ paths: [String], of wanted: [String]) {
        (self.snapshot, self.paths, self.wanted) = (snapshot, paths, wanted)
    }

    /// Whether all files are in the cache or can be added to it.
    package var isPossible: Bool { snapshot.obstacle == nil || snapshot.other != nil }

    /// The requested paths that are missing in the cache.
    package var missing: [String] { paths.filter { !snapshot.isCached($0) } }

    /// One path for each content that is missing in the cache, and the total size of these contents in bytes.
    package var toDownload: (paths: [String], bytes: Int) {
        var seen: Set<ExactString> = []
        let paths = paths.filter { path in
            !snapshot.hasContent(path)
                && seen.insert(ExactString(snapshot.listing?[path]?.digest.name ?? path)).inserted
        }
        // The sizes come from a server, so their sum may overflow an Int.
        return (paths, paths.map(snapshot.size).clampedSum)
    }

    /// The free disk space that the downloads need, in bytes. Partial downloads are subtracted, because a download
    /// that continues them also removes them.
    var roomNeeded: Int {
        let (paths, bytes) = toDownload
        return paths.reduce(bytes) { room, path in
            guard let file = snapshot.listing?[path] else { return room }
            let parts = snapshot.cache.earlierPartials(file.digest.name)
            return room - min(file.size, parts.map(\.size).clampedSum)
        }
    }
}

extension [HubRequest] {
    /// These requests, with all requests for the same folder merged into one.
    package var merged: [HubRequest] {
        reduce(into: []) { merged, request in
            if let place = merged.firstIndex(where: {
                $0.snapshot.folder == request.snapshot.folder
            }) {
                merged[place] = HubRequest(
                    merged[place].snapshot, merged[place].paths + request.paths,
                    of: request.wanted)
            } else {
                merged.append(request)
            }
        }
    }
}
