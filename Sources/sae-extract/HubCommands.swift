// `sae-extract fetch` and `sae-extract saes`.

import ArrayFiles
import Files
import FoundationEssentials
import Hooks
import Hub
import Logging
import Planning
import SparseAutoencoders

/// The subcommands that deal with the Hub.
struct HubCommands {
    private let command: SAEExtract
    private let options: RunOptions
    private let resolver: InputResolver
    private let log = Logger(label: "sae-extract")

    /// For `subcommand`, with the flags in `command`. Throws `UsageError`.
    init(_ command: SAEExtract, of subcommand: String, environment: [String: String]) throws {
        self.command = command
        options = try command.options()
        resolver = InputResolver(
            options, environment: environment, log: log, arguments: ProcessArguments.all,
            subcommand: subcommand)
        let control = StopControl(advice: "run the same command again to continue")
        StopSignals.handle { control.receive($0) }
    }

    /// Says what a run would need and downloads it. Throws `UsageError`, `HubError` and the readers' errors.
    func fetch() async throws {
        guard let hub = try resolver.makeHubIfNeeded() else {
            try options.check()
            try printLine("Nothing to download: all inputs are given as local paths.")
            return
        }
        let inputs = try await resolver.resolve(hub)
        try printLines(HubReport(inputs.requests, hub).lines)
        if command.output.isDryRun {
            try await hub.check(inputs.requests.map(\.request))
            return
        }
        try await resolver.download(inputs, hub)
        try printLines([
            "",
            "All is in \(hub.settings.cacheDirectory). A run with the same flags needs no network: set HF_HUB_OFFLINE=1.",
        ])
    }

    /// Prints the SAEs that exist. Throws `UsageError`, `SAEChoiceError`, `HubError` and `FileError`.
    func list() async throws {
        let (label, folder) = try options.namedModel()
        try resolver.checkCacheFolders(label, folder)
        let tree = try options.saeTree(label: label)
        // One for all sites: it remembers whether the Hub answers.
        let hub = tree == nil ? try resolver.makeHub() : nil
        var rows = [["site", "layer", "width", "average L0"]]
        var isMarked = false
        for site in Site.allCases where options.sites.contains(site) {
            let catalogue: SAECatalogue
            if let tree {
                catalogue = try SAECatalogue(
                    directory: try tree.repository(site: site.rawValue))
            } else {
                let snapshot = try await resolver.snapshotOfSAEs(
                    ScopeSize(label: label), site, hub!)
                catalogue = SAECatalogue(
                    repository: snapshot.reference.id, paths: try snapshot.paths())
            }
            let layers = options.layers.isEmpty ? catalogue.layers : Set(options.layers).sorted()
            for layer in layers {
                let hook = HookPoint(layer: layer, site: site)
                // A named SAE that does not exist is an error; a layer without a nearest one is not.
                let chosen =
                    options.namedSAE(for: hook) == nil
                    ? try? options.chosenSAE(for: hook, of: catalogue)
                    : try options.chosenSAE(for: hook, of: catalogue)
                let widths = catalogue.widths(layer: layer)
                if widths.isEmpty { rows.append([site.rawValue, "\(layer)", "none", ""]) }
                for width in widths {
                    let l0s = try catalogue.averageL0s(layer: layer, width: width).map { l0 in
                        let isChosen =
                            chosen == SAEIdentifier(layer: layer, width: width, averageL0: l0)
                        if isChosen { isMarked = true }
                        return "\(l0)\(isChosen ? "*" : "")"
                    }
                    rows.append([site.rawValue, "\(layer)", width, l0s.joined(separator: " ")])
                }
            }
        }
        var lines = textTable(rows)
        lines += [
            "",
            isMarked
                ? "* taken by a run with these flags (--sae_features \(options.saeFeatures), --target_l0 \(options.targetL0)\(options.saeIDs.isEmpty ? "" : ", --sae_id"))"
                : "none would be taken with --sae_features \(options.saeFeatures)",
        ]
        try printLines(lines)
    }
}

/// What is needed of the Hub, in lines for people.
struct HubReport {
    private let requests: [(name: String, request: HubRequest)]
    private let hub: Hub

    init(_ requests: [(name: String, request: HubRequest)], _ hub: Hub) {
        (self.requests, self.hub) = (requests, hub)
    }

    var lines: [String] {
        var lines: [String] = []
        var (count, needed) = (0, 0)
        for (name, request) in requests {
            let snapshot = request.snapshot
            let toDownload = request.toDownload
            lines.append(
                "\(name): \(snapshot.reference) at commit \(snapshot.commit)")
            lines += textTable(
                request.paths.map { path in
                    [
                        path, byteCount(snapshot.size(path)),
                        toDownload.paths.contains(path) ? "to be downloaded" : "in the cache",
                    ]
                })
            count += toDownload.paths.count
            needed = needed.clampedAdding(toDownload.bytes)
        }
        lines += [
            "",
            "to be downloaded: \(count) \(count == 1 ? "file" : "files"), \(byteCount(needed)); cache: \(hub.settings.cacheDirectory)",
        ]
        return lines
    }
}
