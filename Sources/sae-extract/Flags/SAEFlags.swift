// The flags of the SAEs.

import ArgumentParser
import Planning

/// The flags of the SAEs: where they are, which are used, and when a feature fires.
struct SAEFlags: ParsableArguments {
    @Option(
        name: .customLong("sae_dir"),
        help: ArgumentHelp(
            "Folder of SAEs: gemma-scope-{2b|9b}-pt-{res|mlp|att}/layer_L/width_W/average_l0_N/. (default: from the Hub)",
            valueName: "dir"), completion: .directory)
    var directory: String?

    @Option(
        name: .customLong("sae_revision"),
        help: ArgumentHelp(
            "Branch, tag or commit of the SAEs' repositories.", valueName: "revision"))
    var revision = RunOptions().saeRevision

    @Option(
        name: .customLong("sae_features"),
        help: ArgumentHelp("The SAEs' width: 16k, 32k, 65k, ...", valueName: "width"))
    var features = RunOptions().saeFeatures

    @Option(
        name: .customLong("target_l0"),
        help: ArgumentHelp("Use the SAE whose average L0 is nearest.", valueName: "n"))
    var targetL0 = RunOptions().targetL0

    @Option(
        name: .customLong("sae_id"), parsing: .upToNextOption,
        help: ArgumentHelp(
            "SAEs to use instead: res:layer_5/width_16k/average_l0_34.",
            valueName: "site:id ..."))
    var ids: [NamedSAE] = []

    @Option(
        name: .customLong("feature_threshold"),
        help: ArgumentHelp(
            "A feature fires where its activation is above this.", valueName: "x"))
    var threshold = RunOptions().featureThreshold
}
