// Chooses an SAE for each hook.

import Hooks
import SparseAutoencoders

extension RunOptions {
    /// Returns the SAE for each hook, ordered by layer and then site. `catalogue` returns the list of SAEs of a site.
    /// Throws `UsageError`, `SAEChoiceError` and the errors of `catalogue`.
    package func chosenSAEs(
        of catalogue: (Site) throws -> SAECatalogue
    ) throws -> [(hook: HookPoint, id: SAEIdentifier)] {
        let layers = Set(layers).sorted()
        for (site, id) in saeIDs {
            guard layers.contains(id.layer), sites.contains(site) else {
                throw UsageError(
                    "--sae_id",
                    "\(site.rawValue):\(id) is for a layer or site that is not in --layers and --layer_types; add it there, or remove this SAE from --sae_id"
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

    /// Returns the SAE that `--sae_id` names for `hook`; nil if `--sae_id` does not name an SAE for this hook.
    package func namedSAE(for hook: HookPoint) -> SAEIdentifier? {
        saeIDs.first { $0.site == hook.site && $0.id.layer == hook.layer }?.id
    }

    /// Returns the SAE for `hook`: the one that `--sae_id` names, or else the one of width `--sae_features` whose
    /// average L0 is nearest to `--target_l0`. Throws `SAEChoiceError` if `catalogue` does not have it.
    package func chosenSAE(
        for hook: HookPoint, of catalogue: SAECatalogue
    ) throws(SAEChoiceError) -> SAEIdentifier {
        if let named = namedSAE(for: hook) {
            try catalogue.check(named)
            return named
        }
        return try catalogue.nearest(layer: hook.layer, width: saeFeatures, target: targetL0)
    }
}
