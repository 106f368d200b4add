// The interface of this module: finds out which files a repository has, and downloads them into the cache.

import Files
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// The Hugging Face Hub and its cache on this machine.
package final class Hub: Sendable {
    /// The settings from the environment.
    package let settings: HubSettings
    private let log: Logger
    private let client: HubClient?
    /// The reason why the program cannot create a client, such as a missing libcurl; nil if it can create one.
    private let absence: String?
    /// Whether this process has seen an outage of the Hub. If so, it no longer asks the Hub about revisions that are
    /// in the cache.
    private let isDown = Atomic(false)
    private let contents: CheckedContents
    /// The folders of other commits whose use was logged (see `request`). The use of a folder is logged only once.
    private let said = Mutex<Set<String>>([])

    /// Opens the cache that `settings` name. If `settings` allow the network, creates a client; if libcurl is
    /// missing, logs a warning instead.
    package init(_ settings: HubSettings, log: Logger) {
        self.settings = settings
        self.log = log
        contents = CheckedContents(
            ofCacheAt: settings.cacheDirectory, rememberingIn: settings.ownFolder, log: log)
        #if Hub
            absence = CurlTransport.absence
            if let absence, !settings.isOffline {
                log.warning("\(absence); only the files in the cache are used")
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

    /// Returns the revision's commit and its list of files, from the Hub. Uses the cache instead if the network must
    /// not be used, or if the Hub gives no usable response. Throws `HubError` and `FileError`.
    package func snapshot(_ reference: RepositoryReference) async throws -> RepositorySnapshot {
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
        // If the revision is a commit, its files never change. Then a complete listing in the cache is enough,
        // without a request to the Hub. For a dataset, the listing must also have the card's data.
        if reference.isCommit,
            let listing = cache.ownListing(reference.revision, contents), listing.isChecked,
            reference.kind == .model || listing.card != nil
        {
            return RepositorySnapshot(
                reference, at: reference.revision, in: cache, listing, contents)
        }
        let silence = "\(settings.namedEndpoint) gives no usable answer"
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
            // A dataset without a README has no card, so an empty card is stored.
            if reference.kind == .dataset {
                listing.card =
                    information.card
                    ?? (listing[readme] == nil ? DatasetCard() : cached?.card)
            }
            // If the cache is read-only, `store` only logs the error. The listing is used without being stored.
            if listing != cached { store(listing, of: information.commit, in: cache) }
        } catch {
            // The cache is used only if the error does not contradict the cache's files.
            guard let hubError = error as? HubError, hubError.leavesTheCache else { throw error }
            guard let fallback else {
                if let other = cache.commit(having: [], insteadOf: known) {
                    log.warning(
                        "the cache has files of \(reference.id) at commit \(other); to use them, give this commit as the revision (\(reference.revisionFlags))"
                    )
                }
                throw error
            }
            // An outage affects all repositories. The refusal of one repository says nothing about the others.
            if hubError.isOutage { isDown.store(true, ordering: .relaxed) }
            log.warning("\(error)")
            log.warning(
                "using the cache for \(reference)\(hubError.isOutage ? " and for all other repositories" : "")"
            )
            return fallback
        }
        // Stores the commit in this program's own folder. `settle` later writes the ref that huggingface_hub reads,
        // when the commit's files are in the cache.
        keep { [information] in try cache.noteCommit(information.commit) }
        return RepositorySnapshot(reference, at: information.commit, in: cache, listing, contents)
    }

    // MARK: Requests

    /// Returns a request for `paths` of `snapshot`. All files of a request must be in one folder. If missing files
    /// cannot be added to the cache, the request uses another commit's folder with equal files, if one exists. That
    /// folder must have no file of `rivals`, because its reader would prefer `rivals` to `paths`.
    package func request(
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
                "\(snapshot.reference) is at commit \(snapshot.current), but nothing can be added to the cache (\(obstacle.cause)); using the identical files of commit \(other)"
            )
        }
        return HubRequest(snapshot, paths)
    }

    /// Returns a request for each group of paths in `groups`. If one folder can have the files of all groups, all
    /// requests use it. Otherwise the requests may use different folders. For `rivals` see `request`.
    package func requests(
        _ snapshot: RepositorySnapshot, _ groups: [[String]], without rivals: [String] = []
    ) -> [HubRequest] {
        let whole = request(snapshot, groups.flatMap { $0 }, without: rivals)
        if !whole.isPossible {
            let parts = groups.map { request(snapshot, $0, without: rivals) }
            if parts.allSatisfy(\.isPossible) { return parts }
        }
        return groups.map { HubRequest(whole.snapshot, $0, of: whole.paths) }
    }

    /// Returns the error for the missing `file` if it cannot be added to the cache; nil if it can.
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

    /// Returns the files of a dataset's split `train`, and `snapshot` with the data of the dataset's card. Throws
    /// `HubError` and `FileError`.
    package func trainingFiles(
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
                ? ["the Python script \(script) of the dataset is not run"] : [])
        for remark in remarks { log.warning("\(snapshot.reference): \(remark)") }
        if !snapshot.isListed {
            // Without a listing of the repository, only the hashes prove that the files are complete.
            for file in choice.files {
                if let path = snapshot.damaged(file, trustingNobody: true) {
                    throw HubError.damagedInCache(snapshot.reference, file: file, path: path)
                }
            }
        }
        return (choice.files, snapshot)
    }

    /// Returns `snapshot` with the dataset's card. If the card is unknown, reads the README, and downloads it if
    /// necessary. A README without `configs` gives an empty card. Without a README, `snapshot` stays unchanged.
    /// Throws `HubError` if the README has `configs`, because this program reads `configs` only from the Hub's
    /// response. Also throws the errors of a download.
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
                "its card (\(path)) names the data files under configs; this program reads configs only from the Hub, and \(isolation ?? snapshot.isolation ?? "\(settings.namedEndpoint) does not send them (cardData)")"
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

    /// The maximum number of downloads at the same time.
    private static let simultaneous = 4

    /// Checks that missing files can be downloaded. If not, throws `HubError` or `FileError`: no network, no access,
    /// or not enough disk space. Downloads nothing.
    package func check(_ requests: [HubRequest]) async throws {
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
        // If the free space is unknown, a full disk is noticed only during the download.
        guard let free = FreeSpace(at: settings.cacheDirectory).bytes else { return }
        guard needed <= free else {
            throw HubError.diskFull(
                directory: settings.cacheDirectory, needed: needed, free: free)
        }
    }

    /// Downloads the files of `requests` that the cache lacks. Call `check` first. Several threads call `progress`
    /// with the size of each received or copied piece; a negative size means discarded bytes. Throws `HubError` and
    /// `FileError`.
    package func download(
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
            // Not `waitForAll`: after a failure, it would wait for the other downloads, perhaps for hours.
            while try await group.next() != nil {}
        }
        for request in requests {
            guard let lost = request.missing.first else { continue }
            throw HubError.cleared(directory: request.snapshot.folder, file: lost)
        }
    }

    /// Writes a ref for each revision of `requests`, by which later runs without network find the commit. Call this
    /// function only after all files of `requests` are in the cache. Also removes the files of killed processes.
    package func settle(_ requests: [HubRequest]) {
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
            log.debug("not stored in the cache: \(error)")
        }
    }

    // MARK: Without the network

    /// Why the network must not be used; nil if it may be used.
    private var isolation: String? {
        settings.offlineVariable.map { "\($0) is set" }
    }

    /// Returns the error for the first of `files`, which `snapshot` lacks and which cannot be downloaded.
    package func missing(_ snapshot: RepositorySnapshot, _ files: [String]) -> HubError {
        missing(snapshot.reference, files, isolation ?? snapshot.isolation ?? "")
    }

    /// Returns the error for the SAE `what`, which `snapshot` lacks and which cannot be downloaded.
    package func missing(_ snapshot: RepositorySnapshot, what: String) -> HubError {
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
