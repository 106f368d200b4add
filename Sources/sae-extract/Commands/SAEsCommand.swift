// `sae-extract saes`: prints the SAEs that exist.

import ArgumentParser
import Files
import Hooks
import Hub
import Planning
import SparseAutoencoders

/// The command `sae-extract saes`.
struct SAEsCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "saes",
        abstract:
            "Prints the SAEs that exist for --model, --layers (default: all) and --layer_types, and marks those that a run would use.",
        discussion: """
            Lists the SAEs in --sae_dir if it is given, otherwise those on the Hub. Flags of a run that do not concern SAEs \
            have no effect.
            """)

    @OptionGroup var flags: RunFlags

    /// Prints the SAEs that exist. Throws `UsageError`, `SAEChoiceError`, `HubError` and `FileError`.
    func execute(_ environment: [String: String]) async throws {
        flags.startLogging()
        let setup = try HubCommandSetup(flags, of: "saes", environment: environment)
        let (options, resolver) = (setup.options, setup.resolver)
        let (label, folder) = try options.namedModel()
        try options.checkCacheFolders(label, folder)
        let tree = try options.saeTree(label: label)
        // One `Hub` object for all sites, because it remembers whether the server answers.
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
                // If --sae_id names an SAE that does not exist, the error is thrown. If no SAE of the layer fits
                // --sae_features, no SAE is marked.
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
                ? "* used by a run with these flags (--sae_features \(options.saeFeatures), --target_l0 \(options.targetL0)\(options.saeIDs.isEmpty ? "" : ", --sae_id"))"
                : "a run with --sae_features \(options.saeFeatures) would use none of these SAEs; change --sae_features",
        ]
        try printLines(lines)
    }
}
