// The Hub as the rest of the program sees it: what a repository has, where its files lie, and getting those that are not
// there yet.

import ArrayFiles
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// A repository at one commit.
public struct RepositorySnapshot: Sendable {
    /// The repository and the revision asked for.
    public let reference: RepositoryReference
    /// The commit that the files lie under: the revision's, or an earlier one whose files stand for its own.
    public var commit: String { earlier?.commit ?? current }
    /// The revision's commit: 40 hexadecimal digits.
    fileprivate let current: String
    fileprivate let cache: HubCache
    /// Nil where only the cache's files are known.
    fileprivate let listing: RepositoryListing?
    /// Why nothing can be downloaded; nil where it can.
    fileprivate let isolation: String?
    /// Why nothing can be added to the cache; nil where it can.
    fileprivate var obstacle: FileError?
    /// Files of an earlier commit, where nothing can be added and they are more than there are of this one.
    fileprivate var earlier: EarlierFiles?
    fileprivate let copies = Copies()

    fileprivate init(
        _ reference: RepositoryReference, at commit: String, in cache: HubCache,
        _ listing: RepositoryListing?, isolation: String? = nil
    ) {
        (self.reference, current, self.cache) = (reference, commit, cache)
        (self.listing, self.isolation) = (listing, isolation)
    }

    /// Whether it is known what the dataset's card says of its files.
    public var isCardKnown: Bool { listing?.card != nil }

    /// Whether all files of the commit are known, not only those in the cache.
    public var isListed: Bool { listing != nil }

    /// The folder that the files lie in or will.
    public var folder: String { cache.snapshot(commit) }

    /// What is said where `file` must be put into the cache and cannot be; nil where it can.
    fileprivate func refusal(_ file: String, _ settings: HubSettings) -> HubError? {
        obstacle.map {
            .cacheNotWritable(
                reference, file: file,
                reason: "cannot \($0.operation) \($0.path): \(String(cString: strerror($0.code)))",
                directory: settings.cacheDirectory, source: settings.cacheSource,
                commit: earlier?.commit)
        }
    }

    /// The paths of the commit's files, or of those in the cache where no more is known. Throws `FileError`.
    public func paths() throws -> [String] {
        try listing.map { Array($0.files.keys) } ?? cache.files(of: commit)
    }

    /// Whether the file at `path` exists in the repository, as far as is known.
    public func contains(_ path: String) -> Bool {
        listing.map { $0.files[path] != nil } ?? cache.has(path, of: current, size: nil)
    }

    /// Whether the file at `path` is in the cache, whole.
    public func isCached(_ path: String) -> Bool {
        let file = listing?.files[path]
        if let earlier { return file.map(earlier.have) ?? false }
        return cache.has(path, of: current, size: file?.size)
    }

    /// Whether the content of the file at `path` is in the cache, if under another commit or path.
    public func hasContent(_ path: String) -> Bool {
        guard let file = listing?.files[path] else { return isCached(path) }
        return isCached(path) || hasBlob(file)
            || obstacle == nil && copies.copy(of: file, in: cache, notIn: current) != nil
    }

    private func hasBlob(_ file: RepositoryFile) -> Bool {
        let blob = cache.blob(file.digest.name)
        return fileExists(blob) && fileSize(blob) == file.size
    }

    /// Puts the content of `file`, which the cache has, at `path`. Throws `FileError`.
    fileprivate func place(_ file: RepositoryFile, at path: String) throws {
        if !hasBlob(file), let copy = copies.copy(of: file, in: cache, notIn: current) {
            try cache.makeBlob(of: copy)
            return try cache.link(path, of: current, to: copy.file)
        }
        try cache.link(path, of: current, to: file)
    }

    /// Bytes of the file at `path`.
    public func size(_ path: String) -> Int {
        listing?.files[path]?.size ?? fileSize("\(folder)/\(path)")
    }
}

/// Files of one snapshot that are to be in the cache.
public struct HubRequest: Sendable {
    /// The repository's files.
    public let snapshot: RepositorySnapshot
    /// The paths of those wanted.
    public let paths: [String]

    /// A request for `paths` of `snapshot`.
    public init(_ snapshot: RepositorySnapshot, _ paths: [String]) {
        (self.snapshot, self.paths) = (snapshot, paths)
    }

    /// The paths that are not in the cache.
    public var missing: [String] { paths.filter { !snapshot.isCached($0) } }

    /// The paths whose contents are not in the cache, one for each content, and their bytes.
    public var toDownload: (paths: [String], bytes: Int) {
        var seen: Set<String> = []
        let paths = paths.filter { path in
            !snapshot.hasContent(path)
                && seen.insert(snapshot.listing?.files[path]?.digest.name ?? path).inserted
        }
        return (paths, paths.reduce(0) { $0 + snapshot.size($1) })
    }

    /// Bytes that the file system must have room for. What is there of broken off downloads has its room already: it gives
    /// way when one is continued.
    fileprivate var roomNeeded: Int {
        let (paths, bytes) = toDownload
        return paths.reduce(bytes) { room, path in
            guard let file = snapshot.listing?.files[path] else { return room }
            let parts = snapshot.cache.earlierPartials(file.digest.name)
            return room - min(file.size, parts.reduce(0) { $0 + $1.size })
        }
    }
}

/// The Hugging Face Hub and its cache on this machine.
public final class Hub: Sendable {
    /// What the environment says.
    public let settings: HubSettings
    private let log: Logger
    private let client: HubClient?
    /// Why there is no client where the network may be used; nil where there is one.
    private let absence: String?
    /// Whether it has not answered: then it is not asked about what the cache has.
    private let isDown = Atomic(false)

    /// The Hub by `settings`.
    public init(_ settings: HubSettings, log: Logger) {
        self.settings = settings
        self.log = log
        #if Hub
            absence =
                URLSessionTransport.isPossible
                ? nil
                : "libcurl (libcurl.so.4), which the Hub client needs, is not installed (Debian and Ubuntu: apt-get install libcurl4 ca-certificates)"
            if let absence, !settings.isOffline {
                log.warning("\(absence): only what is in the cache is used")
            }
            client =
                settings.isOffline || absence != nil
                ? nil
                : HubClient(
                    settings, transport: URLSessionTransport(settings.authorities), log: log)
        #else
            absence = "this sae-extract was built without its Hub client"
            client = nil
        #endif
    }

    /// What the revision is now, and what it has: of the Hub, or of the cache where the Hub is not to be asked or does not
    /// answer. Throws `HubError` and `FileError`.
    public func snapshot(_ reference: RepositoryReference) async throws -> RepositorySnapshot {
        let cache = HubCache(reference, in: settings.cacheDirectory)
        let known = cache.commit
        func cached(_ commit: String, _ isolation: String?) -> RepositorySnapshot? {
            let listing = cache.listing(commit)
            guard listing != nil || isDirectory(cache.snapshot(commit)) else { return nil }
            return RepositorySnapshot(
                reference, at: commit, in: cache, listing, isolation: isolation)
        }
        guard let client else {
            let found = known.flatMap { cached($0, isolation) }
            guard let found else { throw missing(reference, file: nil, isolation ?? "") }
            return found
        }
        // A commit never changes; what its card says is not in every listing.
        if reference.isCommit, let found = cached(reference.revision, nil), found.isListed,
            reference.kind == .model || found.isCardKnown
        {
            return found
        }
        let silence = "\(settings.namedEndpoint) gives no answer that can be used"
        let fallback = known.flatMap { cached($0, silence) }
        if let fallback, isDown.load(ordering: .relaxed) { return fallback }
        /// What the cache has, where `error` leaves nothing better. Throws `error` otherwise.
        func fallBack(_ error: any Error) throws -> RepositorySnapshot {
            guard let hubError = error as? HubError, hubError.leavesTheCache, let fallback else {
                throw error
            }
            isDown.store(true, ordering: .relaxed)
            log.warning("\(error)")
            log.warning("using what the cache has of \(reference), and of all else that is needed")
            return fallback
        }
        let commit: String
        let card: DatasetCard
        do {
            (commit, card) = try await client.information(
                reference, patience: fallback == nil ? .full : .little)
        } catch {
            return try fallBack(error)
        }
        var listing = cache.listing(commit)
        if listing == nil || reference.kind == .dataset && listing?.card != card {
            var fresh: RepositoryListing
            if let listing {
                fresh = listing
            } else {
                do {
                    fresh = try await client.listing(reference, commit: commit)
                } catch {
                    return try fallBack(error)
                }
            }
            if reference.kind == .dataset { fresh.card = card }
            listing = fresh
            // A cache that may only be read is good for what is in it.
            keep { [fresh] in try cache.store(fresh, of: commit) }
        }
        // In our own folder: Hugging Face's reference waits until the files of the commit are there.
        keep { try cache.noteCommit(commit) }
        var snapshot = RepositorySnapshot(reference, at: commit, in: cache, listing)
        if let obstacle = cache.obstacle(to: commit) {
            snapshot.obstacle = obstacle
            if let listing, let other = cache.commitToUse(insteadOf: commit, listing) {
                snapshot.earlier = EarlierFiles(other, in: cache)
                log.info(
                    "\(reference) is commit \(commit), and the cache cannot be added to (\(obstacle.path): \(String(cString: strerror(obstacle.code)))): using the files of commit \(other) that are the same"
                )
            }
        }
        return snapshot
    }

    /// The files of a dataset's split `train`. Throws `HubError` and `FileError`.
    public func trainingFiles(_ snapshot: RepositorySnapshot) throws -> [String] {
        switch TrainSplit.choose(try snapshot.paths(), snapshot.listing?.card ?? DatasetCard()) {
        case .success(let files):
            if let shard = missingShards(files).first {
                throw snapshot.isListed
                    ? HubError.noFile(
                        snapshot.reference, file: shard,
                        page: settings.endpoint + snapshot.reference.page)
                    : missing(snapshot, file: shard)
            }
            return files
        case .failure(let problem):
            throw HubError.noCorpus(
                snapshot.reference, reason: problem.reason,
                page: settings.endpoint + snapshot.reference.page)
        }
    }

    // MARK: Downloading

    /// Files that are downloaded at a time.
    private static let simultaneous = 4

    /// Fails where files are missing that cannot be had: offline, without access, without room. Nothing is downloaded. Throws
    /// `HubError` and `FileError`.
    public func check(_ requests: [HubRequest]) async throws {
        var needed = 0
        for request in requests {
            let snapshot = request.snapshot
            for path in request.paths where !snapshot.contains(path) {
                guard snapshot.isListed else { throw missing(snapshot, file: path) }
                throw HubError.noFile(
                    snapshot.reference, file: path,
                    page: settings.endpoint + snapshot.reference.page)
            }
            if let missing = request.missing.first,
                let refusal = snapshot.refusal(missing, settings)
            {
                throw refusal
            }
            guard let first = request.toDownload.paths.first else { continue }
            guard let client, let file = snapshot.listing?.files[first], snapshot.isolation == nil
            else { throw missing(snapshot, file: first) }
            needed += request.roomNeeded
            try await client.checkAccess(to: file, snapshot.reference, commit: snapshot.commit)
        }
        guard needed > 0, !settings.ignoresFreeSpace else { return }
        // Where nothing is known of it, a full disk shows in the download.
        guard let free = FreeSpace(at: settings.cacheDirectory).bytes else { return }
        guard needed <= free else {
            throw HubError.diskFull(
                directory: settings.cacheDirectory, needed: needed, free: free)
        }
    }

    /// Downloads what `requests`, which have been checked, want and the cache has not. `progress` is told of bytes that are
    /// there, several threads at a time. Throws `HubError` and `FileError`.
    public func download(
        _ requests: [HubRequest],
        progress: @escaping @Sendable (Int, DownloadedBytes) -> Void = { _, _ in }
    ) async throws {
        var downloads: [BlobDownload] = []
        for request in requests {
            let snapshot = request.snapshot
            var paths: [String: [String]] = [:]
            for path in request.missing {
                guard let file = snapshot.listing?.files[path] else {
                    throw missing(snapshot, file: path)
                }
                if snapshot.hasContent(path) {
                    try snapshot.place(file, at: path)
                } else {
                    paths[file.digest.name, default: []].append(path)
                }
            }
            for path in request.toDownload.paths {
                guard let client, snapshot.isolation == nil,
                    let file = snapshot.listing?.files[path]
                else { throw missing(snapshot, file: path) }
                downloads.append(
                    BlobDownload(
                        file: file, paths: paths[file.digest.name] ?? [path],
                        commit: snapshot.commit, cache: snapshot.cache, client: client, log: log,
                        report: progress))
            }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, download) in downloads.enumerated() {
                if index >= Hub.simultaneous { try await group.next() }
                group.addTask { try await download.run() }
            }
            try await group.waitForAll()
        }
        for request in requests {
            guard let lost = request.missing.first else { continue }
            throw HubError.cleared(directory: request.snapshot.folder, file: lost)
        }
    }

    /// Writes down which commits the revisions are, now that all of `requests` is there: for runs without the network.
    public func settle(_ requests: [HubRequest]) {
        for request in requests {
            let snapshot = request.snapshot
            guard client != nil, snapshot.isolation == nil, snapshot.obstacle == nil else {
                continue
            }
            keep { try snapshot.cache.setCommit(snapshot.commit) }
            snapshot.cache.tidy()
        }
    }

    private func keep(_ body: () throws -> Void) {
        do {
            try body()
        } catch {
            log.debug("not kept in the cache: \(error)")
        }
    }

    // MARK: Without the network

    /// Why nothing is downloaded at all.
    private var isolation: String? {
        settings.offlineVariable.map { "\($0) is set" }
    }

    /// Why `file`, or something, of what is known of `snapshot` cannot be had.
    public func missing(_ snapshot: RepositorySnapshot, file: String) -> HubError {
        missing(snapshot.reference, file: file, isolation ?? snapshot.isolation ?? "")
    }

    private func missing(
        _ reference: RepositoryReference, file: String?, _ reason: String
    ) -> HubError {
        if let absence, !settings.isOffline {
            return .noClient(
                reference, file: file, reason: absence, cache: settings.cacheDirectory)
        }
        return .notCached(
            reference, file: file, reason: reason, cache: settings.cacheDirectory,
            command: settings.fetchCommand,
            unreadable: HubCache(reference, in: settings.cacheDirectory).unreadable)
    }
}
