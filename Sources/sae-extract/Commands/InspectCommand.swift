// `sae-extract inspect`: shows the content of a file or folder of results.

import ArgumentParser
import ByteJSON
import Files
import Planning
import Results

/// The command `sae-extract inspect`.
struct InspectCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Shows the kind and the content of a file or folder of results.",
        discussion: """
            PATH is the --save_dir of a run, one of the files in it, or any .npz, .npy or .safetensors file. The output has \
            shape, type and metadata. For activations it also has density, L0 per token and the features that fire most often. \
            With --document it has the tokens of that document, each with its strongest features. Dense arrays are read piece \
            by piece, so they may be larger than the memory.

            Examples:
              sae-extract inspect data/raw_features/AuthorMix
              sae-extract inspect some.npz --document 3 --top 5
              sae-extract inspect model.safetensors --array model.norm.weight --json
            """)

    @Argument(help: "The file or folder.", completion: .file())
    var path: String

    @Option(help: ArgumentHelp("Maximum number of features or tokens in a list.", valueName: "n"))
    var top = InspectionOptions().top

    @Option(help: ArgumentHelp("Number of the document to show, from 0.", valueName: "n"))
    var document: Int?

    @Option(help: ArgumentHelp("Read only this array or tensor.", valueName: "name"))
    var array: String?

    @OptionGroup var model: ModelLabel

    @Flag(help: "Print one JSON object, for scripts.")
    var json = false

    static let startsTasks = false

    func execute(_ environment: [String: String]) throws {
        var options = InspectionOptions()
        guard top >= 0 else { throw UsageError("--top", "\(top) is too small; give 0 or more") }
        (options.top, options.document) = (top, document)
        (options.array, options.model) = (array, model.label)
        let path = try UsageError.expandingHome(path, of: "PATH")
        let inspection = try Inspection(path, options)
        guard json else {
            return try printLines(inspection.lines)
        }
        var text: [UInt8] = []
        JSONText.append(.object(inspection.json), compactScalars: true, to: &text)
        try printJSON(text)
    }
}
