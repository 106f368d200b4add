// The flags of the model.

import ArgumentParser
import Hooks
import Planning

/// The flags of the model: its checkpoint, the layers and sites to tap, and how a document becomes the model's input.
struct ModelFlags: ParsableArguments {
    @Option(
        name: .customLong("layers"), parsing: .upToNextOption,
        help: ArgumentHelp(
            "Layers to tap, counted from 0: 5 10 15, or 5,10,15, or 5-8. Required.",
            valueName: "n ..."))
    var layers: [Int] = []

    @Option(
        name: .customLong("layer_types"), parsing: .upToNextOption,
        help: ArgumentHelp(
            "Sites to tap: res (residual stream), mlp (MLP output), att (attention heads). (default: res mlp att)",
            valueName: "site ..."))
    var layerTypes: [Site] = []

    @Option(
        name: .customLong("model"),
        help: ArgumentHelp(
            "\(RunOptions.knownModels.joined(separator: ", ")), or the folder of a checkpoint. Names of output files contain the model's name.",
            valueName: "id|dir"))
    var model = RunOptions().model

    @Option(
        name: .customLong("model_path"),
        help: ArgumentHelp(
            "The folder of the checkpoint, if --model is an id and not a folder. (default: from the Hub)",
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
            "Text that is put before each document; its tokens are not in the output.",
            valueName: "text"))
    var prefix: String?
}
