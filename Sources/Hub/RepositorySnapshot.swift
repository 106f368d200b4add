// A repository at one commit, and requests for its files.

import ByteJSON
import Files
import Glibc

/// A repository at one commit.
public struct RepositorySnapshot: Sendable {
    /// The repository and the revision asked for.
    public let reference: RepositoryReference
    /// The commit in whose folder the files are: the revision's, or another one whose files are proven to be the same.
    public var commit: String { other ?? current }
    /// The revision's commit: 40 hexadecimal digits.
    public let current: String
    let cache: HubCache
    /// The commit's files; nil if only those in the cache are known.
    var listing: RepositoryListing?
    /// Why nothing can be downloaded; nil if downloads are possible.
    let isolation: String?
    /// Why missing files cannot be added to the cache; nil if they can, or if none are missing.
    var obstacle: FileError?
    /// Another commit whose files are used, because nothing can be added to the cache and they are proven to be the same;
    /// otherwise nil.
    var other: String?
    /// `contents` tells which contents of the cache are whole, `others` which are stored under other commits.
    let contents: CheckedContents
    let others: KnownContents

    init(
        _ reference: RepositoryReference, at commit: String, in cache: HubCache,
        _ listing: RepositoryListing?, _ contents: CheckedContents, isolation: String? = nil
    ) {
        (self.reference, current, self.cache) = (reference, commit, cache)
        (self.listing, self.contents, self.isolation) = (listing, contents, isolation)
        others = KnownContents(cache, contents)
    }

    /// Whether it is known what the dataset's card says about its files.
    public var isCardKnown: Bool { listing?.card != nil }

    /// Whether all files of the commit are known, not only those in the cache.
    public var isListed: Bool { listing != nil }

    /// Whether the Hub cannot be asked and nothing can be downloaded.
    public var isIsolated: Bool { isolation != nil }

    /// The path of the folder for the commit's files. It may not exist yet.
    public var folder: String { cache.snapshot(commit) }

    /// The paths of the commit's files; of those in the cache if no more is known. Throws `FileError`.
    public func paths() throws -> [String] {
        try listing.map(\.paths) ?? cache.files(of: commit)
    }

    /// Whether the file at `path` exists in the repository, as far as is known.
    public func contains(_ path: String) -> Bool {
        listing.map { $0[path] != nil } ?? cache.has(path, of: current, size: nil)
    }

    /// Whether the file at `path` is in the cache and whole.
    public func isCached(_ path: String) -> Bool { isCached(path, trustingNobody: false) }

    private func isCached(_ path: String, trustingNobody: Bool) -> Bool {
        let file = listing?[path]
        if let other { return file.map { others.isProven($0, in: other) } ?? false }
        guard cache.has(path, of: current, size: file?.size) else { return false }
        // Without a list, the name of the blob to which the file links says what the content must be.
        guard let expected = file ?? cache.named(path, of: current) else { return true }
        return contents.isWhole(
            cache.file(path, of: current), expected, trustingNobody: trustingNobody)
    }

    /// The path of the content that the cache has for the file at `path`, if it has the right size and the wrong hash; nil if it
    /// is right or missing. `trustingNobody` as for `CheckedContents.isWhole`.
    func damaged(_ path: String, trustingNobody: Bool = false) -> String? {
        guard other == nil, !isCached(path, trustingNobody: trustingNobody),
            cache.has(path, of: current, size: listing?[path]?.size)
        else { return nil }
        return (try? cache.realPath(cache.file(path, of: current))) ?? path
    }

    /// Whether the content of the file at `path` is in the cache, even if only under another commit or path.
    public func hasContent(_ path: String) -> Bool {
        guard let file = listing?[path] else { return isCached(path) }
        return isCached(path) || hasBlob(file) || others.copy(of: file, notIn: current) != nil
    }

    private func hasBlob(_ file: RepositoryFile) -> Bool {
        contents.isWhole(cache.blob(file.digest.name), file)
    }

    /// Creates the file at `path` from the content of `file`, which the cache has. Throws `FileError`.
    func place(_ file: RepositoryFile, at path: String) throws {
        if !hasBlob(file), let copy = others.copy(of: file, notIn: current) {
            try cache.makeBlob(of: copy)
            return try cache.link(path, of: current, to: copy.file)
        }
        try cache.link(path, of: current, to: file)
    }

    /// The size of the file at `path` in bytes.
    public func size(_ path: String) -> Int {
        listing?[path]?.size ?? fileSize("\(folder)/\(path)")
    }
}

/// Files of one snapshot that must be in the cache.
public struct HubRequest: Sendable {
    /// The snapshot that has the files.
    public let snapshot: RepositorySnapshot
    /// The paths of the requested files.
    public let paths: [String]

    /// All paths that are wanted of the repository, as far as they are known.
    let wanted: [String]

    /// Creates a request for `paths` of `snapshot`.
    public init(_ snapshot: RepositorySnapshot, _ paths: [String]) {
        self.init(snapshot, paths, of: paths)
    }

    init(_ snapshot: RepositorySnapshot, _ paths: [String], of wanted: [String]) {
        (self.snapshot, self.paths, self.wanted) = (snapshot, paths, wanted)
    }

    /// Whether all files are in the cache or can be added to it.
    public var isPossible: Bool { snapshot.obstacle == nil || snapshot.other != nil }

    /// The requested paths that are not in the cache.
    public var missing: [String] { paths.filter { !snapshot.isCached($0) } }

    /// One path for each content that is not in the cache, and the sum of their bytes.
    public var toDownload: (paths: [String], bytes: Int) {
        var seen: Set<ExactString> = []
        let paths = paths.filter { path in
            !snapshot.hasContent(path)
                && seen.insert(ExactString(snapshot.listing?[path]?.digest.name ?? path)).inserted
        }
        // The sizes come from a server, so their sum may be larger than an Int.
        return (paths, paths.map(snapshot.size).clampedSum)
    }

    /// The free space that the downloads need, in bytes. Partial downloads count as free space: each is removed when it is
    /// continued.
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
    /// The same requests, merged to one for each folder.
    public var merged: [HubRequest] {
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
