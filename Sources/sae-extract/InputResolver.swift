// Finding a run's inputs: the path given, else the Hub's cache, else the Hub.

import RunFiles
import ArrayFiles
import Files
import FoundationEssentials
import Gemma2
import Hooks
import Hub
import Logging
import Planning
import SparseAutoencoders
import Synchronization
import Tokenization

/// What a run needs of the Hub, and where its inputs will lie once that is there.
struct ResolvedInputs {
    let locations: InputLocations
    /// By what they are: "model", "res SAEs", "corpus".
    let requests: [(name: String, request: HubRequest)]

    var isComplete: Bool { requests.allSatisfy(\.request.missing.isEmpty) }
}

/// Finds the inputs of one run.
struct InputResolver {
    private let options: RunOptions
    private let environment: [String: String]
    private let log: Logger
    private let arguments: [String]
    private let subcommand: String?

    /// A resolver for `options`, which `arguments` (with the program's name, and of `subcommand`) led to.
    init(
        _ options: RunOptions, environment: [String: String], log: Logger, arguments: [String],
        subcommand: String? = nil
    ) {
        (self.options, self.environment) = (options, environment)
        (self.log, self.arguments, self.subcommand) = (log, arguments, subcommand)
    }

    /// The locations of all inputs, downloaded where they were not there. Nil where this is a dry run and some are not:
    /// then it has been said what would be downloaded. Throws `UsageError`, `HubError` and the readers' errors.
    func locations(isDryRun: Bool) async throws -> InputLocations? {
        let hub = try makeHubIfNeeded()
        let inputs = try await resolve(hub)
        guard let hub else { return inputs.locations }
        if isDryRun, !inputs.isComplete {
            try await hub.check(inputs.requests.map(\.request))
            try printLines(
                HubReport(inputs.requests, hub).lines + [
                    "",
                    "What else would be done can be said once these are there: \(hub.settings.fetchCommand)",
                ])
            return nil
        }
        try await download(inputs, hub)
        return inputs.locations
    }

    /// The Hub, where any input is to come from it. Throws `HubError`.
    func makeHubIfNeeded() throws -> Hub? {
        let (_, folder) = try options.namedModel()
        for (flag, revision, path) in [
            ("--revision", options.modelRevision, folder),
            ("--sae_revision", options.saeRevision, options.saeDirectory),
            ("--data_revision", options.dataRevision, options.dataPath),
        ] where revision != "main" && path != nil {
            log.warning("\(flag) \(revision) says nothing: \(path!) is taken as it is")
        }
        guard folder == nil || options.saeDirectory == nil || options.dataPath == nil else {
            return nil
        }
        return try makeHub()
    }

    /// The Hub. Throws `HubError`.
    func makeHub() throws -> Hub {
        try Launcher.checkTasks(asksHub: true)
        var settings = try HubSettings(
            environment: environment, malformed: variablesThatAreNotUTF8())
        settings.userAgent = "sae-extract/\(RunFiles.version)"
        settings.fetchCommand = fetchCommand
        settings.ignoresFreeSpace = options.ignoresFreeSpace
        return Hub(settings, log: log)
    }

    /// This command line as one of `fetch` that downloads, to be pasted into a shell.
    private var fetchCommand: String {
        var rest = Array(arguments.dropFirst())
        if let subcommand, let place = rest.firstIndex(of: subcommand) { rest.remove(at: place) }
        rest.removeAll { ["--dry_run", "--dry-run"].contains($0) }
        if !rest.contains(where: { $0 == "--layers" || $0.hasPrefix("--layers=") }) {
            // From the environment, or not said yet.
            let layers = options.layers.map { "\($0)" }
            rest = ["--layers"] + (layers.isEmpty ? ["..."] : layers) + rest
        }
        return (["sae-extract", "fetch"] + rest.map(shellWord)).joined(separator: " ")
    }

    // MARK: What is needed

    /// Looks at what is there and what the Hub has. Only small files are downloaded: the model's configuration and the
    /// list of its weights. Throws `UsageError`, `HubError` and the readers' errors.
    func resolve(_ hub: Hub?) async throws -> ResolvedInputs {
        try options.check()
        let (label, folder) = try options.namedModel()
        try checkCacheFolders(label, folder)
        let tree = try options.saeTree(label: label)
        try options.checkCorpus()
        if let folder { try CheckpointFiles.checkFolder(folder) }
        var requests: [(String, HubRequest)] = []

        var model = ModelFolders(folder ?? "")
        var modelOrigin: HubOrigin?
        if folder == nil {
            let needed = try await self.model(hub!)
            requests += needed.requests.map { ("model", $0) }
            (model, modelOrigin) = (needed.folders, needed.requests.origin)
        }
        try options.check(try Gemma2Config(path: model.config + "/config.json"))

        let saes: [ChosenSAE]
        if let tree {
            saes = try local(tree)
        } else {
            let (found, needed) = try await published(ScopeSize(label: label), hub!)
            (saes, requests) = (found, requests + needed)
        }

        var dataPaths = options.dataPath.map { [$0] } ?? []
        var corpusOrigin: HubOrigin?
        if options.dataPath == nil {
            let (files, snapshot) = try await hub!.trainingFiles(
                try await hub!.snapshot(
                    try reference(
                        .dataset, options.dataRepository, options.dataRevision, "--data_repo",
                        "--data_revision")))
            if !snapshot.isListed || !snapshot.isCardKnown {
                let what = snapshot.isListed ? "what its card says of them" : "all of its files"
                log.warning(
                    "\(snapshot.reference): \(snapshot.isIsolated ? "without the network " : "")\(what) is not known; reading \(files.joined(separator: ", "))"
                )
            }
            let needed = hub!.requests(snapshot, files.map { [$0] })
            requests += needed.merged.map { ("corpus", $0) }
            dataPaths = zip(needed, files).map { "\($0.snapshot.folder)/\($1)" }
            corpusOrigin = needed.origin
        }
        return ResolvedInputs(
            locations: InputLocations(
                label: label, model: model, modelOrigin: modelOrigin, saes: saes,
                dataPaths: dataPaths, corpusOrigin: corpusOrigin),
            requests: requests)
    }

    /// Fails where a folder of the Hub's cache is given in place of what is in it. Throws `UsageError`.
    func checkCacheFolders(_ label: String, _ folder: String?) throws {
        func refuse(_ path: String, _ flag: String, _ cache: CacheFolder, _ snapshot: String?)
            throws
        {
            switch cache {
            case .repository(let name, _):
                throw UsageError(
                    flag,
                    "\(path) is the folder of \(name) in Hugging Face's cache, not one of its snapshots; give \(snapshot ?? "\(path)/snapshots/COMMIT")"
                )
            case .root(let root, _):
                throw UsageError(
                    flag,
                    "\(path) is Hugging Face's cache; \(snapshot.map { "give \($0), or " } ?? "")leave \(flag) out and set HF_HUB_CACHE=\(shellWord(root))"
                )
            }
        }
        if let folder, !isListed(folder + "/config.json"), let cache = CacheFolder(path: folder) {
            let flag = options.modelPath == nil ? "--model" : "--model_path"
            try refuse(folder, flag, cache, cache.snapshot(of: label))
        }
        if let path = options.saeDirectory,
            SAETree(directory: path, size: ScopeSize(label: label)).isEmpty,
            let cache = CacheFolder(path: path)
        {
            let snapshot: String? = if case .repository(_, let found) = cache { found } else { nil }
            try refuse(path, "--sae_dir", cache, snapshot)
        }
    }

    private func reference(
        _ kind: RepositoryKind, _ id: String, _ revision: String, _ flag: String,
        _ revisionFlag: String
    ) throws -> RepositoryReference {
        guard RepositoryReference(kind, id, revision: "main") != nil else {
            throw UsageError(
                flag, "'\(id)' is not a repository of the Hub; give one like hallisky/AuthorMix")
        }
        guard let reference = RepositoryReference(kind, id, revision: revision) else {
            throw UsageError(
                revisionFlag, "'\(revision)' cannot be a revision; give a branch, a tag or a commit"
            )
        }
        return reference
    }

    /// What is needed of the model, and the folders that it will lie in: one, but for a cache that has it in several and cannot be
    /// added to.
    private func model(
        _ hub: Hub
    ) async throws -> (requests: [HubRequest], folders: ModelFolders) {
        let snapshot = try await hub.snapshot(
            try reference(.model, options.model, options.modelRevision, "--model", "--revision"))
        let isSharded = !snapshot.contains(CheckpointFiles.singleName)
        let single = CheckpointFiles.singleName
        let rivals = isSharded ? [single] : []
        var weights = [single]
        if isSharded {
            weights = [CheckpointFiles.indexName]
            let small = hub.requests(snapshot, [["config.json"], weights], without: rivals)
            try await hub.check(small)
            try await hub.download(small)
            weights += try CheckpointFiles.weightNames(
                index: "\(small[1].snapshot.folder)/\(CheckpointFiles.indexName)")
        } else {
            let small = hub.requests(snapshot, [["config.json"]])
            try await hub.check(small)
            try await hub.download(small)
        }
        let names = TokenizerFiles.names
        let tokenizer = names.first(where: snapshot.contains) ?? names[0]
        let requests = hub.requests(
            snapshot, [["config.json"], [tokenizer], weights],
            without: rivals + names.prefix { $0 != tokenizer })
        let folders = requests.map(\.snapshot.folder)
        return (
            requests.merged,
            ModelFolders(config: folders[0], tokenizer: folders[1], weights: folders[2])
        )
    }

    private func local(_ tree: SAETree) throws -> [ChosenSAE] {
        var catalogues: [Site: SAECatalogue] = [:]
        for site in options.sites {
            catalogues[site] = try SAECatalogue(
                directory: try tree.repository(site: site.rawValue), layers: options.layers)
        }
        return try options.chosenSAEs { catalogues[$0]! }.map { hook, id in
            ChosenSAE(
                hook: hook, id: id, directory: "\(catalogues[hook.site]!.repository)/\(id)")
        }
    }

    private func published(
        _ size: ScopeSize, _ hub: Hub
    ) async throws -> ([ChosenSAE], [(String, HubRequest)]) {
        var snapshots: [Site: RepositorySnapshot] = [:]
        var catalogues: [Site: SAECatalogue] = [:]
        for site in Site.allCases where options.sites.contains(site) {
            let snapshot = try await snapshotOfSAEs(size, site, hub)
            snapshots[site] = snapshot
            catalogues[site] = SAECatalogue(
                repository: snapshot.reference.id, paths: try snapshot.paths())
        }
        let chosen: [(hook: HookPoint, id: SAEIdentifier)]
        do {
            chosen = try options.chosenSAEs { catalogues[$0]! }
        } catch let error as SAEChoiceError {
            // Where only the cache is known, it is the cache that lacks what is asked for.
            guard
                let snapshot = snapshots.values.first(where: {
                    !$0.isListed && $0.reference.id == error.repository
                })
            else { throw error }
            throw hub.missing(snapshot, what: "the SAE asked for")
        }
        var directories: [HookPoint: String] = [:]
        var origins: [Site: HubOrigin] = [:]
        var requests: [(String, HubRequest)] = []
        for site in Site.allCases where options.sites.contains(site) {
            let own = chosen.filter { $0.hook.site == site }
            let snapshot = snapshots[site]!
            let paths = Set(try snapshot.paths())
            let needed = hub.requests(
                snapshot, own.map { SAEFile.files(in: $0.id.description, of: paths) },
                without: own.flatMap { $0.id.rivals(of: paths) })
            for ((hook, id), request) in zip(own, needed) {
                directories[hook] = "\(request.snapshot.folder)/\(id)"
            }
            origins[site] = needed.origin
            requests += needed.merged.map { ("\(site.rawValue) SAEs", $0) }
        }
        let saes = chosen.map { hook, id in
            ChosenSAE(
                hook: hook, id: id, directory: directories[hook]!, origin: origins[hook.site])
        }
        return (saes, requests)
    }

    /// The repository of a site's SAEs. Throws `UsageError` and `HubError`.
    func snapshotOfSAEs(
        _ size: ScopeSize, _ site: Site, _ hub: Hub
    ) async throws -> RepositorySnapshot {
        let snapshot = try await hub.snapshot(
            try reference(
                .model, "google/" + size.repositoryName(site: site.rawValue), options.saeRevision,
                "--model", "--sae_revision"))
        if !snapshot.isListed {
            log.warning(
                "\(snapshot.reference): without the network only the SAEs in the cache are known; others may be nearer to --target_l0"
            )
        }
        return snapshot
    }

    // MARK: Downloading

    /// Downloads what is missing, saying how far it is. Throws `HubError` and `FileError`.
    func download(_ inputs: ResolvedInputs, _ hub: Hub) async throws {
        let requests = inputs.requests.map(\.request)
        try await hub.check(requests)
        let needed = requests.map(\.toDownload)
        let total = needed.map(\.bytes).clampedSum
        let files = needed.reduce(0) { $0 + $1.paths.count }
        guard files > 0 else {
            // What is left is to be linked under a new commit.
            try await hub.download(requests)
            hub.settle(requests)
            return
        }
        log.info(
            "downloading \(counted(files, "file")), \(byteCount(total)), into \(hub.settings.cacheDirectory)"
        )
        let progress = DownloadProgress(total: total)
        let reporting = Task {
            while true {
                try await Task.sleep(for: .seconds(5))
                log.info("\(progress.description)")
            }
        }
        defer { reporting.cancel() }
        let clock = ContinuousClock.now
        try await hub.download(requests) { progress.add($0, $1) }
        hub.settle(requests)
        let seconds = max((ContinuousClock.now - clock) / .seconds(1), 1e-3)
        log.info("downloaded \(byteCount(total)) in \(decimals(seconds, 1)) s")
    }
}

extension [HubRequest] {
    /// For `run.json`: the commit whose files these are, or have the contents of.
    fileprivate var origin: HubOrigin? {
        first.map {
            HubOrigin(
                repository: $0.snapshot.reference.id, revision: $0.snapshot.reference.revision,
                commit: Set(map(\.snapshot.commit)).count == 1
                    ? $0.snapshot.commit : $0.snapshot.current)
        }
    }
}

extension SAEIdentifier {
    /// The files that would be read in place of those listed at `paths`.
    fileprivate func rivals(of paths: Set<String>) -> [String] {
        let archive = "\(self)/params.npz"
        return paths.contains(archive) ? [] : [archive]
    }
}

/// How far downloads are.
private final class DownloadProgress: Sendable {
    private let total: Int
    private let start = ContinuousClock.now
    /// Bytes that are there, and those of them that have come by the network.
    private let done = Mutex((all: 0, received: 0))

    init(total: Int) {
        self.total = total
    }

    func add(_ count: Int, _ kind: DownloadedBytes) {
        done.withLock {
            $0.all += count
            if kind == .received { $0.received += count }
        }
    }

    var description: String {
        let (all, received) = done.withLock { $0 }
        let rate = Double(received) / max((ContinuousClock.now - start) / .seconds(1), 1e-3)
        let left = rate > 0 ? ", about \(Int(Double(total - all) / rate)) s left" : ""
        return
            "downloaded \(byteCount(all)) of \(byteCount(total)), \(byteCount(Int(rate)))/s\(left)"
    }
}
