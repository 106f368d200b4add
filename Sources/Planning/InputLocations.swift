// The paths of a run's inputs on this machine.

/// The paths of a run's inputs on this machine.
public struct InputLocations: Codable, Sendable {
    /// The model's name in file names and logs.
    public let label: String
    /// The checkpoint's folders.
    public let model: ModelFolders
    /// The origin of a downloaded checkpoint; nil for a local checkpoint.
    public let modelOrigin: HubOrigin?
    /// One SAE for each hook, ordered by layer and then site.
    public let saes: [ChosenSAE]
    /// The files of the corpus, in the order in which they are read.
    public let dataPaths: [String]
    /// The origin of a downloaded corpus; nil for a local corpus.
    public let corpusOrigin: HubOrigin?

    /// Creates the locations of all inputs.
    public init(
        label: String, model: ModelFolders, modelOrigin: HubOrigin? = nil, saes: [ChosenSAE],
        dataPaths: [String], corpusOrigin: HubOrigin? = nil
    ) {
        (self.label, self.model, self.modelOrigin) = (label, model, modelOrigin)
        (self.saes, self.dataPaths, self.corpusOrigin) = (saes, dataPaths, corpusOrigin)
    }
}
