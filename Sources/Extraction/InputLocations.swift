// Where a run's inputs lie on this machine, and what of them the options ask for.

import ArrayFiles
import Corpus
import FoundationEssentials
import Gemma2
import SparseAutoencoders

/// Where on the Hugging Face Hub a file comes from.
public struct HubOrigin: Codable, Equatable, Sendable {
    /// `google/gemma-2-2b`.
    public let repository: String
    /// The revision asked for.
    public let revision: String
    /// The commit that it was.
    public let commit: String

    /// The repository at `commit`, which `revision` was.
    public init(repository: String, revision: String, commit: String) {
        (self.repository, self.revision, self.commit) = (repository, revision, commit)
    }
}

/// The SAE chosen for a hook.
public struct ChosenSAE: Codable, Sendable {
    /// Where it reads.
    public let hook: HookPoint
    /// Which it is.
    public let id: SAEIdentifier
    /// The folder it lies in.
    public let directory: String
    /// Nil for a local one.
    public let origin: HubOrigin?

    /// The SAE `id` in the folder `directory`, for `hook`.
    public init(hook: HookPoint, id: SAEIdentifier, directory: String, origin: HubOrigin? = nil) {
        (self.hook, self.id, self.directory, self.origin) = (hook, id, directory, origin)
    }
}

/// The folders that a checkpoint's files lie in: one, but for a cache that has them of several commits.
public struct ModelFolders: Codable, Sendable {
    /// The folder of `config.json`.
    public let config: String
    /// The folder of the tokenizer's file.
    public let tokenizer: String
    /// The folder of the weights and their index.
    public let weights: String

    /// The folders of the parts.
    public init(config: String, tokenizer: String, weights: String) {
        (self.config, self.tokenizer, self.weights) = (config, tokenizer, weights)
    }

    /// The folder `directory` for all.
    public init(_ directory: String) {
        self.init(config: directory, tokenizer: directory, weights: directory)
    }
}

/// Where a run's inputs lie.
public struct InputLocations: Codable, Sendable {
    /// The model's name in file names and logs.
    public let label: String
    /// The checkpoint's folders.
    public let model: ModelFolders
    /// Nil for a local checkpoint.
    public let modelOrigin: HubOrigin?
    /// One SAE for each hook, by layer and then site.
    public let saes: [ChosenSAE]
    /// The corpus' files, in the order in which they are read.
    public let dataPaths: [String]
    /// Nil for a local corpus.
    public let corpusOrigin: HubOrigin?

    /// The locations of everything that a run reads.
    public init(
        label: String, model: ModelFolders, modelOrigin: HubOrigin? = nil, saes: [ChosenSAE],
        dataPaths: [String], corpusOrigin: HubOrigin? = nil
    ) {
        (self.label, self.model, self.modelOrigin) = (label, model, modelOrigin)
        (self.saes, self.dataPaths, self.corpusOrigin) = (saes, dataPaths, corpusOrigin)
    }
}

extension RunOptions {
    /// The models that go by a Hub id.
    public static let knownModels = ["google/gemma-2-2b", "google/gemma-2-9b"]

    /// The model's name in file names and logs, and the checkpoint's folder where one is given. Throws `UsageError`.
    public func namedModel() throws -> (label: String, directory: String?) {
        if let modelPath { try RunOptions.checkFolder(modelPath, flag: "--model_path") }
        if isDirectory(model) {
            let components = model.split(separator: "/").filter { $0 != "." }
            guard let last = components.last, last != ".." else {
                throw UsageError(
                    "--model",
                    "'\(model)' has no last path component to name the files by; give the folder by name"
                )
            }
            return (String(last), modelPath ?? model)
        }
        guard RunOptions.knownModels.contains(where: { $0.utf8.elementsEqual(model.utf8) }) else {
            // A path, or the name of something that is here.
            if isListed(model) { try RunOptions.checkFolder(model, flag: "--model") }
            throw UsageError(
                "--model",
                "'\(model)' is not known; give \(RunOptions.knownModels.joined(separator: ", ")) or the folder of a Gemma-2 checkpoint"
            )
        }
        return (model, modelPath)
    }

    /// The local tree of SAEs, where one is given, for the model `label`. Throws `UsageError`.
    public func saeTree(label: String) throws -> SAETree? {
        guard let saeDirectory else { return nil }
        try RunOptions.checkFolder(saeDirectory, flag: "--sae_dir")
        let tree = SAETree(directory: saeDirectory, size: ScopeSize(label: label))
        if let reason = tree.partOfTree {
            throw UsageError("--sae_dir", "\(saeDirectory) \(reason)")
        }
        return tree
    }

    /// Fails where the local corpus, if one is given, cannot be read. Throws `UsageError`.
    public func checkCorpus() throws {
        guard let path = dataPath else { return }
        try RunOptions.checkExists(path, flag: "--data_path")
        guard !isDirectory(path) else {
            let endings = [".json", ".jsonl", ".ndjson"].flatMap { [$0, $0 + ".gz", $0 + ".zst"] }
            let file = try? directoryContents(path).first { name in
                endings.contains(where: name.hasSuffix) && !name.hasPrefix(".")
                    && !["dataset_info.json", "state.json", "dataset_dict.json"].contains(name)
            }
            throw UsageError(
                "--data_path",
                fileExists(path + "/dataset_info.json") || fileExists(path + "/dataset_dict.json")
                    ? "\(path) is a folder that the datasets library saved; give a file: load_from_disk(FOLDER)[\"train\"].to_json(FILE) makes one"
                    : "\(path) is a folder; give a file\(file.map { ", e.g. \(path)/\($0)" } ?? "")"
            )
        }
        guard isReadable(path) else {
            throw UsageError("--data_path", "\(path) cannot be read; check its permissions")
        }
    }

    /// Fails where the options ask for what no model has. Throws `UsageError`.
    public func check() throws {
        guard !layers.isEmpty else {
            throw UsageError(
                "--layers", "is required: give the layers to tap, e.g. --layers 5 10 15")
        }
        guard !saveDirectory.isEmpty else {
            throw UsageError("--save_dir", "is empty; give the folder for the results")
        }
        guard !selection.authorField.utf8.elementsEqual(selection.textField.utf8) else {
            throw UsageError("--text_field", "is the same as --author_field; give two keys")
        }
    }

    /// Fails where the options ask for what the model of `config` has not. Throws `UsageError`.
    public func check(_ config: Gemma2Config) throws {
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

    /// The SAE for each hook, by layer and then site: the one named for it, else the nearest of what `catalogue` has for
    /// the site. Throws `UsageError`, `SAEChoiceError` and what `catalogue` throws.
    public func chosenSAEs(
        of catalogue: (Site) throws -> SAECatalogue
    ) throws -> [(hook: HookPoint, id: SAEIdentifier)] {
        let layers = Set(layers).sorted()
        for (site, id) in saeIDs {
            guard layers.contains(id.layer), sites.contains(site) else {
                throw UsageError(
                    "--sae_id",
                    "\(site.rawValue):\(id) is for a layer or site that is not asked for; add it to --layers and --layer_types or drop it"
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
                let known = try catalogue(site)
                let named = saeIDs.first { $0.site == site && $0.id.layer == layer }?.id
                if let named { try known.check(named) }
                let id =
                    try named
                    ?? known.nearest(layer: layer, width: saeFeatures, target: targetL0)
                return (HookPoint(layer: layer, site: site), id)
            }
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
                "\(path) is not a folder, but a file\(kind); give \(isInCheckpoint ? "the folder it lies in" : "a folder")"
            )
        }
        do {
            _ = try directoryContents(path)
        } catch {
            throw UsageError(flag, "\(error)")
        }
    }
}
