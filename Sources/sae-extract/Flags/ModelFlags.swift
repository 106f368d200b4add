// The flags of the model.

import ArgumentParser
import Hooks
import Planning

/// The flags of the model: its layers, sites and checkpoint, and how a document becomes its input.
struct ModelFlags: ParsableArguments {
    @Option(
        name: .customLong("layers"), parsing: .upToNextOption,
        help: ArgumentHelp(
            "Layers to tap, from 0: 5 10 15, or 5,10,15, or 5-8. Required.", valueName: "n ..."
        ))
    var layers: [Int] = []

    @Option(
        name: .customLong("layer_types"), parsing: .upToNextOption,
        help: ArgumentHelp(
            "Sites to tap: residual stream, MLP output, attention heads. (default: res mlp att)",
            valueName: "site ..."))
    var layerTypes: [Site] = []

    @Option(
        name: .customLong("model"),
        help: ArgumentHelp(
            "\(RunOptions.knownModels.joined(separator: ", ")), or a checkpoint's folder. Output files are named after it.",
            valueName: "id|dir"))
    var model = RunOptions().model

    @Option(
        name: .customLong("model_path"),
        help: ArgumentHelp(
            "The checkpoint's folder, if --model is an id. (default: from the Hub)",
            valueName: "dir"), completion: .directory)
    var modelPath: String?

    @Option(
        name: .customLong("revision"),
        help: ArgumentHelp(
            "Branch, tag or commit of the model's repository.", valueName: "revision"))
    var revision = RunOptions().modelRevision

    @Option(
        name: .customLong("max_seq_len"),
        help: ArgumentHelp(
            "Maximum number of tokens of a document, <bos> included.", valueName: "n"))
    var maximumLength = RunOptions().maximumLength

    @Option(
        name: .customLong("prefix"),
        help: ArgumentHelp(
            "Text put before each document; its tokens are in no output.", valueName: "text")
    )
    var prefix: String?
}
