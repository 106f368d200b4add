// Which SAE each hook gets.

import Hooks
import SparseAutoencoders

extension RunOptions {
    /// The SAE for each hook, by layer and then site: the one named for it, else the nearest of what `catalogue` has for
    /// the site. Throws `UsageError`, `SAEChoiceError` and what `catalogue` throws.
    public func chosenSAEs(
        of catalogue: (Site) throws -> SAECatalogue
    ) throws -> [(hook: HookPoint, id: SAEIdentifier)] {
        let layers = Set(layers).sorted()
        for (site, id) in saeIDs {
            guard layers.contains(id.layer), sites.contains(site) else {
                throw UsageError(
                    "--sae_id",
                    "\(site.rawValue):\(id) is for a layer or site that is not asked for; add it to --layers and --layer_types or drop it"
                )
            }
            let same = saeIDs.filter { $0.site == site && $0.id.layer == id.layer }
            guard same.count == 1 else {
                throw UsageError(
                    "--sae_id",
                    "names \(same.count) SAEs for \(site.rawValue) at layer \(id.layer); give one")
            }
        }
        return try layers.flatMap { layer in
            try Site.allCases.filter(sites.contains).map { site in
                let hook = HookPoint(layer: layer, site: site)
                return (hook, try chosenSAE(for: hook, of: try catalogue(site)))
            }
        }
    }

    /// The SAE that `--sae_id` names for `hook`; nil if it names none.
    public func namedSAE(for hook: HookPoint) -> SAEIdentifier? {
        saeIDs.first { $0.site == hook.site && $0.id.layer == hook.layer }?.id
    }

    /// The SAE for `hook` among those of `catalogue`: the one that `--sae_id` names, else the one of width `--sae_features`
    /// with the average L0 nearest to `--target_l0`. Throws `SAEChoiceError` if `catalogue` does not have it.
    public func chosenSAE(
        for hook: HookPoint, of catalogue: SAECatalogue
    ) throws(SAEChoiceError) -> SAEIdentifier {
        if let named = namedSAE(for: hook) {
            try catalogue.check(named)
            return named
        }
        return try catalogue.nearest(layer: hook.layer, width: saeFeatures, target: targetL0)
    }
}
