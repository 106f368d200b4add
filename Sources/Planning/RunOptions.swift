// What a user asks for, before anything has been looked at.

import Corpus
import Hooks
import RunFiles
import Tensors

/// How many documents a forward pass takes.
public enum BatchSize: Equatable, Codable, Sendable {
    /// A fixed number.
    case documents(Int)
    /// As many as fit a budget of tokens.
    case auto
}

/// Where a run computes.
public enum DeviceChoice: String, CaseIterable, Codable, Sendable {
    /// CUDA where there is an NVIDIA driver, else the processor.
    case auto
    /// The processor.
    case cpu
    /// NVIDIA devices.
    case cuda
}

/// One run's settings, as given or defaulted.
public struct RunOptions: Sendable {
    /// `--layers`.
    public var layers: [Int] = []
    /// `--model`: a Hub id or a checkpoint's folder.
    public var model = "google/gemma-2-2b"
    /// `--model_path`: the checkpoint's folder, when `model` is an id.
    public var modelPath: String?
    /// `--revision`: of the model's repository.
    public var modelRevision = "main"
    /// `--sae_features`: the SAEs' width.
    public var saeFeatures = "16k"
    /// `--target_l0`.
    public var targetL0 = 50
    /// `--sae_dir`.
    public var saeDirectory: String?
    /// `--sae_revision`: of the SAEs' repositories.
    public var saeRevision = "main"
    /// `--sae_id`: SAEs that override the choice.
    public var saeIDs: [(site: Site, id: SAEIdentifier)] = []
    /// `--layer_types`.
    public var sites: [Site] = Site.allCases
    /// `--data_path`.
    public var dataPath: String?
    /// `--data_repo`: the dataset, where there is no path.
    public var dataRepository = "hallisky/AuthorMix"
    /// `--data_revision`.
    public var dataRevision = "main"
    /// Which documents.
    public var selection = Selection()
    /// `--batch_size`; nil for two documents on the CPU, `auto` on CUDA.
    public var batchSize: BatchSize?
    /// `--device`.
    public var device = DeviceChoice.auto
    /// `--dtype`.
    public var precision = Precision.float32
    /// `--save_dir`.
    public var saveDirectory = "data/raw_features/AuthorMix"
    /// `--ignore_free_space`.
    public var ignoresFreeSpace = false
    /// `--max_seq_len`: tokens of a document, `<bos>` included.
    public var maximumLength = 360
    /// `--feature_threshold`.
    public var featureThreshold: Float = 1
    /// `--prefix`.
    public var prefix = ""
    /// `--storage_format`.
    public var storageFormat = StorageFormat.dense
    /// `--activation_values`.
    public var activationValues = ActivationValues.binary
    /// `--rank` and `--world_size`, or what a scheduler says.
    public var placement = RankPlacement()
    /// `--workers`; nil for one on the CPU, one for each device on CUDA.
    public var workers: Int?
    /// `--threads`; nil for the cores, divided among the workers.
    public var threads: Int?
    /// The command line, for `run.json`.
    public var commandLine: [String] = []

    /// The defaults.
    public init() {}
}
