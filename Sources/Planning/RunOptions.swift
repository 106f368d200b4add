// The settings that a user gives, before any input is read.

import Corpus
import Hooks
import RunFiles
import Tensors

/// The settings of a run, with default values for those that the user does not give.
package struct RunOptions: Sendable {
    /// `--layers`: the layers to tap.
    package var layers: [Int] = []
    /// `--model`: a repository on the Hub or the folder of a checkpoint.
    package var model = "google/gemma-2-2b"
    /// `--model_path`: the folder of the checkpoint, if `model` is a repository.
    package var modelPath: String?
    /// `--revision`: the revision of the model's repository.
    package var modelRevision = "main"
    /// `--sae_features`: the width of the SAEs, as their repositories write it, such as `16k`.
    package var saeFeatures = "16k"
    /// `--target_l0`: the wanted average L0. For each hook, the SAE with the nearest average L0 is chosen.
    package var targetL0 = 50
    /// `--sae_dir`: the folder of local SAEs; nil for SAEs of the Hub.
    package var saeDirectory: String?
    /// `--sae_revision`: the revision of the SAEs' repositories.
    package var saeRevision = "main"
    /// `--sae_id`: SAEs that replace those that `--sae_features` and `--target_l0` choose.
    package var saeIDs: [(site: Site, id: SAEIdentifier)] = []
    /// `--layer_types`: the sites to tap in each layer.
    package var sites: [Site] = Site.allCases
    /// `--data_path`: the file of a local corpus; nil for a dataset of the Hub.
    package var dataPath: String?
    /// `--data_repo`: the dataset on the Hub, if `dataPath` is nil.
    package var dataRepository = "hallisky/AuthorMix"
    /// `--data_revision`: the revision of the dataset.
    package var dataRevision = "main"
    /// The flags that select documents.
    package var selection = Selection()
    /// `--batch_size`: the size of batches; nil for two documents on the CPU and `auto` on CUDA.
    package var batchSize: BatchSize?
    /// `--device`: the kind of device to compute on.
    package var device = DeviceChoice.auto
    /// `--dtype`: the precision of matrix products.
    package var precision = Precision.float32
    /// `--save_dir`: the folder of the results.
    package var saveDirectory = "data/raw_features/AuthorMix"
    /// `--ignore_free_space`: whether too little free space causes a warning instead of an error.
    package var ignoresFreeSpace = false
    /// `--max_seq_len`: the largest number of tokens of a document, `<bos>` included.
    package var maximumLength = 360
    /// `--feature_threshold`: a feature fires if its activation is greater than this number.
    package var featureThreshold: Float = 1
    /// `--prefix`: the text before each document.
    package var prefix = ""
    /// `--storage_format`: the layout of activations on disk.
    package var storageFormat = StorageFormat.dense
    /// `--activation_values`: the value that is stored for a feature that fires.
    package var activationValues = ActivationValues.binary
    /// `--rank` and `--world_size`, or the values that a scheduler sets.
    package var placement = RankPlacement()
    /// `--workers`: the number of workers; nil for one on the CPU and one per device on CUDA.
    package var workers: Int?
    /// `--threads`: the number of threads of each worker; nil to divide the cores among the workers.
    package var threads: Int?
    /// The command line, for `run.json`.
    package var commandLine: [String] = []

    /// Creates the default settings. `layers` is empty and must be set.
    package init() {}
}
