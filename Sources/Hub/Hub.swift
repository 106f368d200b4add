// The interface of this module for the rest of the program: which files a repository has, where they are in the cache, and the
// download of those that are missing.

import Files
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// The Hugging Face Hub and its cache on this machine.
public final class Hub: Sendable {
    /// The settings from the environment.
    public let settings: HubSettings
    private let log: Logger
    private let client: HubClient?
    /// Why no client can be created even if the network may be used; nil if a client can be created.
    private let absence: String?
    /// Whether the Hub had an outage in this process. After an outage, the Hub is not asked about a revision that the cache can
    /// supply.
    private let isDown = Atomic(false)
    private let contents: CheckedContents
    /// The snapshots of other commits whose use was logged already.
    private let said = Mutex<Set<String>>([])

    /// Opens the cache that `settings` name, and creates a client unless the network is forbidden. Logs a warning if libcurl is
    /// missing.
    public init(_ settings: HubSettings, log: Logger) {
        self.settings = settings
        self.log = log
        contents = CheckedContents(
            ofCacheAt: settings.cacheDirectory, rememberingIn: settings.ownFolder, log: log)
        #if Hub
            absence = CurlTransport.absence
            if let absence, !settings.isOffline {
                log.warning("\(absence): only what is in the cache is used")
            }
            client =
                settings.isOffline || absence != nil
                ? nil
                : HubClient(settings, transport: CurlTransport(settings), log: log)
        #else
            absence = "this sae-extract was built without its Hub client"
            client = nil
        #endif
    }

    private func cache(of reference: RepositoryReference) -> HubCache {
        HubCache(
            reference, in: settings.cacheDirectory, isRootGiven: settings.isCacheDirectoryGiven)
    }

    /// Returns the revision's present commit and its files: from the Hub, or from the cache if the Hub must not be asked or does
    /// not answer. Throws `HubError` and `FileError`.
    public func snapshot(_ reference: RepositoryReference) async throws -> RepositorySnapshot {
        let cache = self.cache(of: reference)
        try cache.check()
        let known = cache.commit
        func cached(_ commit: String, _ isolation: String?) -> RepositorySnapshot? {
            let listing = cache.ownListing(commit, contents) ?? cache.listing(commit)
            guard listing != nil || isDirectory(cache.snapshot(commit)) else { return nil }
            return RepositorySnapshot(
                reference, at: commit, in: cache, listing, contents, isolation: isolation)
        }
        guard let client else {
            let found = known.flatMap { cached($0, isolation) }
            guard let found else { throw missing(reference, [], isolation ?? "") }
            return found
        }
        // A commit never changes, so the Hub need not be asked again. A dataset's listing suffices only if it has what the card
        // says; some listings do not.
        if reference.isCommit,
            let listing = cache.ownListing(reference.revision, contents), listing.isChecked,
            reference.kind == .model || listing.card != nil
        {
            return RepositorySnapshot(
                reference, at: reference.revision, in: cache, listing, contents)
        }
        let silence = "\(settings.namedEndpoint) gives no answer that can be used"
        let fallback = known.flatMap { cached($0, silence) }
        if let fallback, isDown.load(ordering: .relaxed) { return fallback }
        let information: RepositoryInformation
        var listing: RepositoryListing
        do {
            information = try await client.information(
                reference, patience: fallback == nil ? .full : .little)
            let cached = cache.ownListing(information.commit, contents)
            listing =
                if let cached, cached.flaw(information) == nil { cached } else {
                    try await client.wholeListing(reference, information)
                }
            listing.isChecked = information.names != nil
            // A dataset without a README has no card.
            if reference.kind == .dataset {
                listing.card =
                    information.card
                    ?? (listing[readme] == nil ? DatasetCard() : cached?.card)
            }
            // In a read-only cache nothing can be stored, but its files can be used.
            if listing != cached { store(listing, of: information.commit, in: cache) }
        } catch {
            // Uses the cache if the error says nothing against the cache's files.
            guard let hubError = error as? HubError, hubError.leavesTheCache else { throw error }
            guard let fallback else {
                if let other = cache.commit(having: [], insteadOf: known) {
                    log.warning(
                        "the cache has files of \(reference.id) of commit \(other): give that as the revision (\(reference.revisionFlags)) to use it"
                    )
                }
                throw error
            }
            // The refusal of one repository says nothing about other repositories.
            if hubError.isOutage { isDown.store(true, ordering: .relaxed) }
            log.warning("\(error)")
            log.warning(
                "using what the cache has of \(reference)\(hubError.isOutage ? ", and of everything else that is needed" : "")"
            )
            return fallback
        }
        // Recorded in our own folder. Hugging Face's ref is written only when the files of the commit are in the cache.
        keep { [information] in try cache.noteCommit(information.commit) }
        return RepositorySnapshot(reference, at: information.commit, in: cache, listing, contents)
    }

    // MARK: Requests

    /// Returns a request for `paths` of `snapshot`, which must all be in one folder. If some are missing and nothing can be added
    /// to the cache, the folder is that of another commit whose files are proven to be the same, if such a commit exists. That
    /// folder must not have any of the files `rivals`: a reader of the folder would read `rivals` instead of the requested files.
    public func request(
        _ snapshot: RepositorySnapshot, _ paths: [String], without rivals: [String] = []
    ) -> HubRequest {
        let missing = paths.filter { !snapshot.isCached($0) }
        guard !missing.isEmpty, let listing = snapshot.listing else {
            return HubRequest(snapshot, paths)
        }
        let files = paths.compactMap { listing[$0] }
        let lacking = missing.compactMap { listing[$0] }
        guard files.count == paths.count,
            let obstacle = snapshot.cache.obstacle(
                to: snapshot.current, lacking.map { ($0, !snapshot.hasContent($0.path)) })
        else { return HubRequest(snapshot, paths) }
        var snapshot = snapshot
        snapshot.obstacle = obstacle
        snapshot.other = snapshot.cache.commits().first { other in
            other != snapshot.current
                && files.allSatisfy { snapshot.cache.has($0.path, of: other, size: $0.size) }
                && !rivals.contains { snapshot.cache.has($0, of: other, size: nil) }
                && files.allSatisfy { snapshot.others.isProven($0, in: other) }
        }
        if let other = snapshot.other,
            said.withLock({ $0.insert(snapshot.cache.snapshot(other)).inserted })
        {
            log.info(
                "\(snapshot.reference) is commit \(snapshot.current), and nothing can be added to the cache (\(obstacle.cause)): using the files of commit \(other) that are the same"
            )
        }
        return HubRequest(snapshot, paths)
    }

    /// Returns a request for each of `groups` of paths of `snapshot`: all in one folder if that is possible, otherwise each group
    /// in a folder that suits it. `rivals` as for `request`.
    public func requests(
        _ snapshot: RepositorySnapshot, _ groups: [[String]], without rivals: [String] = []
    ) -> [HubRequest] {
        let whole = request(snapshot, groups.flatMap { $0 }, without: rivals)
        if !whole.isPossible {
            let parts = groups.map { request(snapshot, $0, without: rivals) }
            if parts.allSatisfy(\.isPossible) { return parts }
        }
        return groups.map { HubRequest(whole.snapshot, $0, of: whole.paths) }
    }

    /// Returns the error for `file` of `request`, which is missing, if nothing can be added to the cache; otherwise nil.
    private func refusal(_ file: String, _ request: HubRequest) -> HubError? {
        request.snapshot.obstacle.map {
            .cacheNotWritable(
                request.snapshot.reference, file: file,
                reason: $0.cause,
                directory: settings.cacheDirectory, source: settings.cacheSource,
                commit: request.snapshot.cache.commit(
                    having: request.wanted, insteadOf: request.snapshot.current))
        }
    }

    /// The path of a dataset's card in its repository.
    private var readme: String { "README.md" }

    /// Returns the files of a dataset's split `train`, and the snapshot with what the card says. Throws `HubError` and
    /// `FileError`.
    public func trainingFiles(
        _ snapshot: RepositorySnapshot
    ) async throws -> (files: [String], snapshot: RepositorySnapshot) {
        let snapshot = try await withCard(snapshot)
        let paths = try snapshot.paths()
        let choice: TrainSplit.Choice
        do {
            choice = try TrainSplit.choose(paths, snapshot.listing?.card ?? DatasetCard())
        } catch {
            throw noCorpus(snapshot, error.reason)
        }
        if let shard = missingShards(choice.files).first {
            throw snapshot.isListed
                ? HubError.noFile(
                    snapshot.reference, file: shard,
                    page: settings.endpoint + snapshot.reference.page)
                : missing(snapshot, [shard])
        }
        let script = "\(snapshot.reference.id.split(separator: "/").last ?? "").py"
        let remarks =
            choice.remarks
            + (paths.contains(script)
                ? ["\(script), which says in Python what its data are, is not run"] : [])
        for remark in remarks { log.warning("\(snapshot.reference): \(remark)") }
        if !snapshot.isListed {
            // Without a list of the repository's files, only the hashes prove that the files are whole.
            for file in choice.files {
                if let path = snapshot.damaged(file, trustingNobody: true) {
                    throw HubError.damagedInCache(snapshot.reference, file: file, path: path)
                }
            }
        }
        return (choice.files, snapshot)
    }

    /// Returns `snapshot` with an empty card if only the README can tell what the card says, and the README has no `configs`.
    /// Downloads the README if necessary. Throws `HubError` and `FileError`, also if the README has `configs`, which this program
    /// reads only from the Hub's answer.
    private func withCard(_ snapshot: RepositorySnapshot) async throws -> RepositorySnapshot {
        guard !snapshot.isCardKnown, snapshot.contains(readme) else { return snapshot }
        let request = request(snapshot, [readme])
        if request.isPossible, snapshot.isolation == nil, client != nil {
            try await check([request])
            try await download([request])
        }
        guard request.missing.isEmpty else { return snapshot }
        let path = "\(request.snapshot.folder)/\(readme)"
        guard !DatasetCard.hasConfigs(readme: path) else {
            throw noCorpus(
                snapshot,
                "its card (\(path)) says under configs which files are its data, and \(isolation ?? snapshot.isolation ?? "\(settings.namedEndpoint) does not pass that on (cardData)")"
            )
        }
        var snapshot = snapshot
        snapshot.listing?.card = DatasetCard()
        if let listing = snapshot.listing {
            store(listing, of: snapshot.current, in: snapshot.cache)
        }
        return snapshot
    }

    private func noCorpus(_ snapshot: RepositorySnapshot, _ reason: String) -> HubError {
        .noCorpus(
            snapshot.reference, reason: reason, page: settings.endpoint + snapshot.reference.page)
    }

    // MARK: Downloading

    /// The number of files that are downloaded at the same time.
    private static let simultaneous = 4

    /// Throws if missing files cannot be downloaded: no network, no access or not enough space. Downloads nothing. Throws
    /// `HubError` and `FileError`.
    public func check(_ requests: [HubRequest]) async throws {
        var needed = 0
        for request in requests {
            let snapshot = request.snapshot
            for path in request.paths where !snapshot.contains(path) {
                guard snapshot.isListed else { throw missing(snapshot, [path] + request.wanted) }
                throw HubError.noFile(
                    snapshot.reference, file: path,
                    page: settings.endpoint + snapshot.reference.page)
            }
            if let missing = request.missing.first, let refusal = refusal(missing, request) {
                throw refusal
            }
            guard let first = request.toDownload.paths.first else { continue }
            guard let client, let file = snapshot.listing?[first], snapshot.isolation == nil
            else {
                if let path = snapshot.damaged(first) {
                    throw HubError.damagedInCache(snapshot.reference, file: first, path: path)
                }
                throw missing(snapshot, [first] + request.wanted)
            }
            needed = needed.clampedAdding(request.roomNeeded)
            try await client.checkAccess(to: file, snapshot.reference, commit: snapshot.commit)
        }
        guard needed > 0, !settings.ignoresFreeSpace else { return }
        // If the free space is not known, a full disk shows during the download.
        guard let free = FreeSpace(at: settings.cacheDirectory).bytes else { return }
        guard needed <= free else {
            throw HubError.diskFull(
                directory: settings.cacheDirectory, needed: needed, free: free)
        }
    }

    /// Downloads what `requests` need and the cache lacks. Call `check` with them first. `progress` is called, by several threads
    /// at a time, with the number of bytes of each piece that is received or found; a negative number takes bytes back. Throws
    /// `HubError` and `FileError`.
    public func download(
        _ requests: [HubRequest],
        progress: @escaping @Sendable (Int, DownloadedBytes) -> Void = { _, _ in }
    ) async throws {
        var downloads: [BlobDownload] = []
        for request in requests {
            let snapshot = request.snapshot
            var paths: [String: [String]] = [:]
            for path in request.missing {
                guard let file = snapshot.listing?[path] else {
                    throw missing(snapshot, [path])
                }
                if snapshot.hasContent(path) {
                    try snapshot.place(file, at: path)
                } else {
                    paths[file.digest.name, default: []].append(path)
                }
            }
            for path in request.toDownload.paths {
                guard let client, snapshot.isolation == nil,
                    let file = snapshot.listing?[path]
                else { throw missing(snapshot, [path]) }
                downloads.append(
                    BlobDownload(
                        file: file, paths: paths[file.digest.name] ?? [path],
                        commit: snapshot.commit, cache: snapshot.cache, contents: contents,
                        client: client, log: log, report: progress))
            }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, download) in downloads.enumerated() {
                if index >= Hub.simultaneous { try await group.next() }
                group.addTask { try await download.run() }
            }
            // Not waitForAll: the first failure must end the other downloads, which may take hours.
            while try await group.next() != nil {}
        }
        for request in requests {
            guard let lost = request.missing.first else { continue }
            throw HubError.cleared(directory: request.snapshot.folder, file: lost)
        }
    }

    /// Records, for runs without the network, which commits the revisions are. All files of `requests` are in the cache by now.
    /// Removes what killed processes have left in the cache.
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

    private func store(_ listing: RepositoryListing, of commit: String, in cache: HubCache) {
        keep {
            try cache.store(listing, of: commit)
            contents.noteOwn(cache.listingPath(commit))
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

    /// Why the network must not be used; nil if it may be used.
    private var isolation: String? {
        settings.offlineVariable.map { "\($0) is set" }
    }

    /// Returns the error for an impossible download of the first of `files`, which `snapshot` lacks.
    public func missing(_ snapshot: RepositorySnapshot, _ files: [String]) -> HubError {
        missing(snapshot.reference, files, isolation ?? snapshot.isolation ?? "")
    }

    /// Returns the error for an impossible download of the SAE `what`, which `snapshot` lacks.
    public func missing(_ snapshot: RepositorySnapshot, what: String) -> HubError {
        missing(snapshot.reference, [], isolation ?? snapshot.isolation ?? "", what: what)
    }

    private func missing(
        _ reference: RepositoryReference, _ files: [String], _ reason: String, what: String? = nil
    ) -> HubError {
        let what = what ?? files.first
        if let absence, !settings.isOffline {
            return .noClient(
                reference, file: what, reason: absence, cache: settings.cacheDirectory)
        }
        let cache = self.cache(of: reference)
        return .notCached(
            reference, file: what, reason: reason, cache: settings.cacheDirectory,
            command: settings.fetchCommand, unreadable: cache.unreadable,
            commit: cache.commit(having: files, insteadOf: cache.commit))
    }
}
