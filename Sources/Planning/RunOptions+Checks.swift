// Checks options before any input is read, and checks the paths that options give.

import Corpus
import Files
import FoundationEssentials
import Gemma2
import Hooks
import SparseAutoencoders

extension RunOptions {
    /// The models that `--model` accepts by the name of their repository on the Hub.
    package static let knownModels = ["google/gemma-2-2b", "google/gemma-2-9b"]

    /// Returns the model's label and the folder of its checkpoint, or nil for the folder if the model comes from the
    /// Hub. Throws `UsageError`.
    package func namedModel() throws -> (label: String, directory: String?) {
        if let modelPath { try RunOptions.checkFolder(modelPath, flag: "--model_path") }
        if isDirectory(model) {
            let components = model.split(separator: "/").filter { $0 != "." }
            guard let last = components.last, last != ".." else {
                throw UsageError(
                    "--model",
                    "'\(model)' does not end with the name of a folder, which is used in file names; give a path that ends with the folder's name"
                )
            }
            return (String(last), modelPath ?? model)
        }
        guard RunOptions.knownModels.contains(where: { $0.utf8.elementsEqual(model.utf8) }) else {
            // A file of this name exists, so the user meant a path.
            if isListed(model) { try RunOptions.checkFolder(model, flag: "--model") }
            throw UsageError(
                "--model",
                "'\(model)' is not known; give \(RunOptions.knownModels.joined(separator: ", ")) or the folder of a Gemma-2 checkpoint"
            )
        }
        return (model, modelPath)
    }

    /// Returns the tree of local SAEs for the model `label`; nil if `--sae_dir` is not given. Throws `UsageError`.
    package func saeTree(label: String) throws -> SAETree? {
        guard let saeDirectory else { return nil }
        try RunOptions.checkFolder(saeDirectory, flag: "--sae_dir")
        let tree = SAETree(directory: saeDirectory, size: ScopeSize(label: label))
        if let reason = tree.partOfTree {
            throw UsageError("--sae_dir", "\(saeDirectory) \(reason)")
        }
        return tree
    }

    /// Throws `UsageError` if a local corpus is given and cannot be read.
    package func checkCorpus() throws {
        guard let path = dataPath else { return }
        try RunOptions.checkExists(path, flag: "--data_path")
        guard !isDirectory(path) else {
            let endings = [".json", ".jsonl", ".ndjson"].flatMap { [$0, $0 + ".gz", $0 + ".zst"] }
            let file = try? directoryContents(path).first { name in
                endings.contains(where: name.hasSuffix) && !name.hasPrefix(".")
                    && !["dataset_info.json", "state.json", "dataset_dict.json"].contains(name)
            }
            let isDictionary = fileExists(path + "/dataset_dict.json")
            throw UsageError(
                "--data_path",
                isDictionary || fileExists(path + "/dataset_info.json")
                    ? "\(path) is a folder that Python's datasets library saved; convert it to a file with load_from_disk(FOLDER)\(isDictionary ? "[\"train\"]" : "").to_json(FILE), and give the file"
                    : "\(path) is a folder; give a file\(file.map { ", e.g. \(path)/\($0)" } ?? "")"
            )
        }
        guard isReadable(path) else {
            throw UsageError("--data_path", "\(path) cannot be read; check its permissions")
        }
    }

    /// Throws `UsageError` if the options are invalid for every model.
    package func check() throws {
        guard !layers.isEmpty else {
            throw UsageError(
                "--layers", "is required: give the layers to tap, e.g. --layers 5 10 15")
        }
        guard !saveDirectory.isEmpty else {
            throw UsageError("--save_dir", "is empty; give the folder for the results")
        }
        guard !selection.authorField.utf8.elementsEqual(selection.textField.utf8) else {
            throw UsageError(
                "--text_field",
                "'\(selection.textField)' is also the value of --author_field; give two different keys of the corpus's records"
            )
        }
    }

    /// Throws `UsageError` if the options are invalid for the model with the configuration `config`.
    package func check(_ config: Gemma2Config) throws {
        for layer in layers where !(0..<config.nLayers).contains(layer) {
            throw UsageError(
                "--layers",
                "\(layer) is out of range: the model has \(config.nLayers) layers, 0 to \(config.nLayers - 1)"
            )
        }
        guard (2...config.nContext).contains(maximumLength) else {
            throw UsageError(
                "--max_seq_len",
                "\(maximumLength) is out of range: 2 to \(config.nContext), the model's max_position_embeddings"
            )
        }
    }

    private static func checkExists(_ path: String, flag: String) throws {
        if let target = danglingLinkTarget(path) {
            throw UsageError(flag, "\(path) \(danglingLinkSentence(target))")
        }
        guard fileExists(path) else {
            throw UsageError(flag, "\(path) does not exist; check the path")
        }
    }

    private static func checkFolder(_ path: String, flag: String) throws {
        try checkExists(path, flag: flag)
        guard isDirectory(path) else {
            let kind = FileKind(path: path).map { " (\($0.name))" } ?? ""
            let folder = parentFolder(of: path)
            let isInCheckpoint = fileExists((folder.isEmpty ? "." : folder) + "/config.json")
            throw UsageError(
                flag,
                "\(path) is not a folder, but a file\(kind); give \(isInCheckpoint ? "the folder that contains it" : "a folder")"
            )
        }
        do {
            _ = try directoryContents(path)
        } catch {
            throw UsageError(flag, "\(error)")
        }
    }
}
