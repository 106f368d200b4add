// A value of `--sae_id`.

import ArgumentParser
import Hooks

/// An SAE, written as `SITE:layer_L/width_W/average_l0_N`, e.g. `res:layer_5/width_16k/average_l0_34`.
struct NamedSAE: ExpressibleByArgument {
    let site: Site
    let id: SAEIdentifier

    init?(argument: String) {
        let parts = argument.split(separator: ":", maxSplits: 1).map(String.init)
        guard parts.count == 2, let site = Site(rawValue: parts[0]),
            let id = SAEIdentifier(parts[1])
        else { return nil }
        (self.site, self.id) = (site, id)
    }
}
