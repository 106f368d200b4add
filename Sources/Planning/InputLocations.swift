// Where a run's inputs lie on this machine.

import FoundationEssentials
import Hooks

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
