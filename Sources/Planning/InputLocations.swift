// The paths of a run's inputs on this machine.

/// The paths of a run's inputs on this machine.
package struct InputLocations: Codable, Sendable {
    /// The model's name in file names and logs.
    package let label: String
    /// The checkpoint's folders.
    package let model: ModelFolders
    /// The origin of a downloaded checkpoint; nil for a local checkpoint.
    package let modelOrigin: HubOrigin?
    /// One SAE for each hook, ordered by layer and then site.
    package let saes: [ChosenSAE]
    /// The files of the corpus, in the order in which they are read.
    package let dataPaths: [String]
    /// The origin of a downloaded corpus; nil for a local corpus.
    package let corpusOrigin: HubOrigin?

    /// Creates the locations of all inputs.
    package init(
        label: String, model: ModelFolders, modelOrigin: HubOrigin? = nil, saes: [ChosenSAE],
        dataPaths: [String], corpusOrigin: HubOrigin? = nil
    ) {
        (self.label, self.model, self.modelOrigin) = (label, model, modelOrigin)
        (self.saes, self.dataPaths, self.corpusOrigin) = (saes, dataPaths, corpusOrigin)
    }
}
