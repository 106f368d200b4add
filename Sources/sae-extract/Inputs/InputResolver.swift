// Finds the inputs of a run: at the given path, otherwise in the Hub's cache, otherwise on the Hub.

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

/// Finds the inputs of one run, and downloads those that are missing.
struct InputResolver {
    private let options: RunOptions
    private let environment: [String: String]
    private let log: Logger
    private let arguments: [String]
    private let subcommand: String?

    /// `arguments` is the command line from which `options` were read. Its first element is the program's name.
    /// `subcommand` is the subcommand in `arguments`, or nil.
    init(
        _ options: RunOptions, environment: [String: String], log: Logger, arguments: [String],
        subcommand: String? = nil
    ) {
        (self.options, self.environment) = (options, environment)
        (self.log, self.arguments, self.subcommand) = (log, arguments, subcommand)
    }

    /// Downloads the missing inputs and returns the locations of all inputs. If inputs are missing in a dry run,
    /// prints the needed files instead and returns nil. Throws `UsageError`, `HubError` and the errors of file
    /// readers.
    func locations(isDryRun: Bool) async throws -> InputLocations? {
        let hub = try makeHubIfNeeded()
        let inputs = try await resolve(hub)
        guard let hub else { return inputs.locations }
        if isDryRun, !inputs.isComplete {
            try await hub.check(inputs.requests.map(\.request))
            try printLines(
                HubFileList(inputs.requests, hub).lines + [
                    "",
                    "To see what else the run would do, first download these files: \(hub.settings.fetchCommand)",
                ])
            return nil
        }
        try await inputs.download(from: hub, log: log)
        return inputs.locations
    }

    /// Returns a client of the Hub, or nil if all inputs are local. Throws `UsageError` and the errors of `makeHub`.
    func makeHubIfNeeded() throws -> Hub? {
        let (_, folder) = try options.namedModel()
        for (flag, revision, path) in [
            ("--revision", options.modelRevision, folder),
            ("--sae_revision", options.saeRevision, options.saeDirectory),
            ("--data_revision", options.dataRevision, options.dataPath),
        ] where revision != "main" && path != nil {
            log.warning(
                "\(flag) \(revision) has no effect, because the input is a local path: \(path!)")
        }
        guard folder == nil || options.saeDirectory == nil || options.dataPath == nil else {
            return nil
        }
        return try makeHub()
    }

    /// Returns a client of the Hub. Throws `HubError`, and `LauncherError` if the system allows too few threads.
    func makeHub() throws -> Hub {
        try StartLimits.checkTasks(asksHub: true)
        var settings = try HubSettings(
            environment: environment, malformed: variablesThatAreNotUTF8())
        settings.userAgent = "sae-extract/\(RunFiles.version)"
        settings.fetchCommand = fetchCommand
        settings.ignoresFreeSpace = options.ignoresFreeSpace
        return Hub(settings, log: log)
    }

    /// The `fetch` command that downloads the inputs of this command line, quoted for a shell.
    private var fetchCommand: String {
        var rest = Array(arguments.dropFirst())
        if let subcommand, let place = rest.firstIndex(of: subcommand) { rest.remove(at: place) }
        rest.removeAll { ["--dry_run", "--dry-run"].contains($0) }
        if !rest.contains(where: { $0 == "--layers" || $0.hasPrefix("--layers=") }) {
            // The layers may come from an environment variable. If no layers are given, `...` stands in their place.
            let layers = options.layers.map { "\($0)" }
            rest = ["--layers"] + (layers.isEmpty ? ["..."] : layers) + rest
        }
        return (["sae-extract", "fetch"] + rest.map(shellWord)).joined(separator: " ")
    }

    // MARK: Needed files

    /// Finds all inputs in the given paths, in the cache and on the Hub. Downloads only the model's configuration and
    /// the list of its weights. Throws `UsageError`, `HubError` and the errors of file readers.
    func resolve(_ hub: Hub?) async throws -> ResolvedInputs {
        try options.check()
        let (label, folder) = try options.namedModel()
        try options.checkCacheFolders(label, folder)
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
                let what = snapshot.isListed ? "the dataset card" : "the list of its files"
                log.warning(
                    "\(snapshot.reference): \(snapshot.isIsolated ? "without the network " : "")\(what) is not known; check that these files are the whole corpus: \(files.joined(separator: ", "))"
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

    private func reference(
        _ kind: RepositoryKind, _ id: String, _ revision: String, _ flag: String,
        _ revisionFlag: String
    ) throws -> RepositoryReference {
        guard RepositoryReference(kind, id, revision: "main") != nil else {
            throw UsageError(
                flag,
                "'\(id)' is not a repository of the Hub; give a name like hallisky/AuthorMix")
        }
        guard let reference = RepositoryReference(kind, id, revision: revision) else {
            throw UsageError(
                revisionFlag,
                "'\(revision)' is not a valid revision; give a branch, a tag or a commit")
        }
        return reference
    }

    /// Returns the requests for the model's files, and the folders that hold these files. Only a read-only cache may
    /// have the files in different folders.
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
            // If the Hub's list of files is not known, the SAE may exist on the Hub. So the message says only that
            // the cache lacks the SAE.
            guard
                let snapshot = snapshots.values.first(where: {
                    !$0.isListed && $0.reference.id == error.repository
                })
            else { throw error }
            throw hub.missing(snapshot, what: "the requested SAE")
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

    /// Returns the snapshot of the repository that has the SAEs of a site. Throws `UsageError` and `HubError`.
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

}

extension [HubRequest] {
    /// The repository, revision and commit of the files, for `run.json`. If the files are in snapshots of several
    /// commits, the commit is the current one, which has the same files. Nil if there are no requests.
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
    /// The file `params.npz` of this SAE, if it is not in `paths`. This file must not exist in the snapshot's folder,
    /// because `SAEFile` would read it instead of the files in `paths`.
    fileprivate func rivals(of paths: Set<String>) -> [String] {
        let archive = "\(self)/params.npz"
        return paths.contains(archive) ? [] : [archive]
    }
}
