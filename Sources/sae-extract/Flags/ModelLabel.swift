// The flag --label of the commands that read results.

import ArgumentParser

/// The flag that selects one model's results in a folder with results of several models.
struct ModelLabel: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The model whose results are read, if the folder has results of several models.",
            valueName: "model"))
    var label: String?
}
