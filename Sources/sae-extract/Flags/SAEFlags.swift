// The flags of the SAEs.

import ArgumentParser
import Planning

/// The flags of the SAEs: where their files are, which SAEs are used, and when a feature fires.
struct SAEFlags: ParsableArguments {
    @Option(
        name: .customLong("sae_dir"),
        help: ArgumentHelp(
            "Folder with the SAEs: gemma-scope-{2b|9b}-pt-{res|mlp|att}/layer_L/width_W/average_l0_N/. (default: from the Hub)",
            valueName: "dir"), completion: .directory)
    var directory: String?

    @Option(
        name: .customLong("sae_revision"),
        help: ArgumentHelp(
            "Branch, tag or commit of the SAEs' repositories.", valueName: "revision"))
    var revision = RunOptions().saeRevision

    @Option(
        name: .customLong("sae_features"),
        help: ArgumentHelp(
            "Width of the SAEs (number of features): 16k, 32k, 65k, ...", valueName: "width"))
    var features = RunOptions().saeFeatures

    @Option(
        name: .customLong("target_l0"),
        help: ArgumentHelp(
            "At each layer and site, use the SAE whose average L0 is nearest to this number.",
            valueName: "n"))
    var targetL0 = RunOptions().targetL0

    @Option(
        name: .customLong("sae_id"), parsing: .upToNextOption,
        help: ArgumentHelp(
            "SAEs to use in place of those that --sae_features and --target_l0 select, e.g. res:layer_5/width_16k/average_l0_34.",
            valueName: "site:id ..."))
    var ids: [NamedSAE] = []

    @Option(
        name: .customLong("feature_threshold"),
        help: ArgumentHelp(
            "A feature fires at a token if its activation is above this number.", valueName: "x"))
    var threshold = RunOptions().featureThreshold
}
