// A repository at one commit, and what a run wants of it.

import ByteJSON
import Files
import Glibc

/// A repository at one commit.
public struct RepositorySnapshot: Sendable {
    /// The repository and the revision asked for.
    public let reference: RepositoryReference
    /// The commit that the files lie under: the revision's, or another one whose files stand for its own.
    public var commit: String { other ?? current }
    /// The revision's commit: 40 hexadecimal digits.
    public let current: String
    let cache: HubCache
    /// Nil where only the cache's files are known.
    var listing: RepositoryListing?
    /// Why nothing can be downloaded; nil where it can.
    let isolation: String?
    /// Why what is missing cannot be added to the cache; nil where it can, or nothing is.
    var obstacle: FileError?
    /// The commit whose files are used, where nothing can be added and they are proven to be those of this one.
    var other: String?
    /// Where it is looked up what of the cache is whole, and what of it lies under other commits.
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

    /// Whether it is known what the dataset's card says of its files.
    public var isCardKnown: Bool { listing?.card != nil }

    /// Whether all files of the commit are known, not only those in the cache.
    public var isListed: Bool { listing != nil }

    /// Whether nothing can be asked for or downloaded.
    public var isIsolated: Bool { isolation != nil }

    /// The folder that the files lie in or will.
    public var folder: String { cache.snapshot(commit) }

    /// The paths of the commit's files, or of those in the cache where no more is known. Throws `FileError`.
    public func paths() throws -> [String] {
        try listing.map(\.paths) ?? cache.files(of: commit)
    }

    /// Whether the file at `path` exists in the repository, as far as is known.
    public func contains(_ path: String) -> Bool {
        listing.map { $0[path] != nil } ?? cache.has(path, of: current, size: nil)
    }

    /// Whether the file at `path` is in the cache, whole.
    public func isCached(_ path: String) -> Bool { isCached(path, trustingNobody: false) }

    private func isCached(_ path: String, trustingNobody: Bool) -> Bool {
        let file = listing?[path]
        if let other { return file.map { others.isProven($0, in: other) } ?? false }
        guard cache.has(path, of: current, size: file?.size) else { return false }
        // Without a list, the name of what it is a link to says what it must be.
        guard let expected = file ?? cache.named(path, of: current) else { return true }
        return contents.isWhole(
            cache.file(path, of: current), expected, trustingNobody: trustingNobody)
    }

    /// The path of what lies in the cache for the file at `path` of the right size and is not its content; nil where all is well, or
    /// nothing is there. `trustingNobody` as `CheckedContents.isWhole`.
    func damaged(_ path: String, trustingNobody: Bool = false) -> String? {
        guard other == nil, !isCached(path, trustingNobody: trustingNobody),
            cache.has(path, of: current, size: listing?[path]?.size)
        else { return nil }
        return (try? cache.realPath(cache.file(path, of: current))) ?? path
    }

    /// Whether the content of the file at `path` is in the cache, if under another commit or path.
    public func hasContent(_ path: String) -> Bool {
        guard let file = listing?[path] else { return isCached(path) }
        return isCached(path) || hasBlob(file) || others.copy(of: file, notIn: current) != nil
    }

    private func hasBlob(_ file: RepositoryFile) -> Bool {
        contents.isWhole(cache.blob(file.digest.name), file)
    }

    /// Puts the content of `file`, which the cache has, at `path`. Throws `FileError`.
    func place(_ file: RepositoryFile, at path: String) throws {
        if !hasBlob(file), let copy = others.copy(of: file, notIn: current) {
            try cache.makeBlob(of: copy)
            return try cache.link(path, of: current, to: copy.file)
        }
        try cache.link(path, of: current, to: file)
    }

    /// Bytes of the file at `path`.
    public func size(_ path: String) -> Int {
        listing?[path]?.size ?? fileSize("\(folder)/\(path)")
    }
}

/// Files of one snapshot that are to be in the cache.
public struct HubRequest: Sendable {
    /// The repository's files.
    public let snapshot: RepositorySnapshot
    /// The paths of those wanted.
    public let paths: [String]

    /// All that is wanted of the repository, as far as is known.
    let wanted: [String]

    /// A request for `paths` of `snapshot`.
    public init(_ snapshot: RepositorySnapshot, _ paths: [String]) {
        self.init(snapshot, paths, of: paths)
    }

    init(_ snapshot: RepositorySnapshot, _ paths: [String], of wanted: [String]) {
        (self.snapshot, self.paths, self.wanted) = (snapshot, paths, wanted)
    }

    /// Whether all of it is in the cache or can be put there.
    public var isPossible: Bool { snapshot.obstacle == nil || snapshot.other != nil }

    /// The paths that are not in the cache.
    public var missing: [String] { paths.filter { !snapshot.isCached($0) } }

    /// The paths whose contents are not in the cache, one for each content, and their bytes.
    public var toDownload: (paths: [String], bytes: Int) {
        var seen: Set<ExactString> = []
        let paths = paths.filter { path in
            !snapshot.hasContent(path)
                && seen.insert(ExactString(snapshot.listing?[path]?.digest.name ?? path)).inserted
        }
        // What a server says of sizes may add up to anything.
        return (paths, paths.map(snapshot.size).clampedSum)
    }

    /// Bytes that the file system must have room for. What is there of broken off downloads has its room already: it gives
    /// way when one is continued.
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
    /// The same with one request for each folder.
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
