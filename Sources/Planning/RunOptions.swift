// The settings that a user gives, before any input is read.

import Corpus
import Hooks
import RunFiles
import Tensors

/// The settings of a run, with default values for those that the user does not give.
public struct RunOptions: Sendable {
    /// `--layers`: the layers to tap.
    public var layers: [Int] = []
    /// `--model`: a repository on the Hub or the folder of a checkpoint.
    public var model = "google/gemma-2-2b"
    /// `--model_path`: the folder of the checkpoint, if `model` is a repository.
    public var modelPath: String?
    /// `--revision`: the revision of the model's repository.
    public var modelRevision = "main"
    /// `--sae_features`: the width of the SAEs, as their repositories write it, such as `16k`.
    public var saeFeatures = "16k"
    /// `--target_l0`: the average L0 that the chosen SAEs should have. For each hook, the SAE with the nearest L0 is
    /// chosen.
    public var targetL0 = 50
    /// `--sae_dir`: the folder of local SAEs; nil for SAEs of the Hub.
    public var saeDirectory: String?
    /// `--sae_revision`: the revision of the SAEs' repositories.
    public var saeRevision = "main"
    /// `--sae_id`: SAEs that replace those that `--sae_features` and `--target_l0` choose.
    public var saeIDs: [(site: Site, id: SAEIdentifier)] = []
    /// `--layer_types`: the sites to tap in each layer.
    public var sites: [Site] = Site.allCases
    /// `--data_path`: the file of a local corpus; nil for a dataset of the Hub.
    public var dataPath: String?
    /// `--data_repo`: the dataset on the Hub, if `dataPath` is nil.
    public var dataRepository = "hallisky/AuthorMix"
    /// `--data_revision`: the revision of the dataset.
    public var dataRevision = "main"
    /// The flags that select documents.
    public var selection = Selection()
    /// `--batch_size`: the size of batches; nil for two documents on the CPU and `auto` on CUDA.
    public var batchSize: BatchSize?
    /// `--device`: the kind of device to compute on.
    public var device = DeviceChoice.auto
    /// `--dtype`: the precision of matrix products.
    public var precision = Precision.float32
    /// `--save_dir`: the folder of the results.
    public var saveDirectory = "data/raw_features/AuthorMix"
    /// `--ignore_free_space`: whether too little free space causes a warning instead of an error.
    public var ignoresFreeSpace = false
    /// `--max_seq_len`: the largest number of tokens of a document, `<bos>` included.
    public var maximumLength = 360
    /// `--feature_threshold`: a feature fires if its activation is greater than this number.
    public var featureThreshold: Float = 1
    /// `--prefix`: the text before each document.
    public var prefix = ""
    /// `--storage_format`: the layout of activations on disk.
    public var storageFormat = StorageFormat.dense
    /// `--activation_values`: the value that is stored for a feature that fires.
    public var activationValues = ActivationValues.binary
    /// `--rank` and `--world_size`, or the values that a scheduler sets.
    public var placement = RankPlacement()
    /// `--workers`: the number of workers; nil for one on the CPU and one per device on CUDA.
    public var workers: Int?
    /// `--threads`: the number of threads of each worker; nil to divide the cores among the workers.
    public var threads: Int?
    /// The command line, for `run.json`.
    public var commandLine: [String] = []

    /// Creates the default settings. `layers` is empty and must be set.
    public init() {}
}
