// A value of `--feature` of `sae-extract report`.

import ArgumentParser
import Hooks

/// A feature, written as `SITE:LAYER:NUMBER`, e.g. `res:5:1234`.
struct NamedFeature: ExpressibleByArgument {
    let hook: HookPoint
    let number: Int

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false).map(
            String.init)
        guard parts.count == 3, let site = Site(rawValue: parts[0]), let layer = Int(parts[1]),
            let number = Int(parts[2]), layer >= 0, number >= 0
        else { return nil }
        (hook, self.number) = (HookPoint(layer: layer, site: site), number)
    }
}
