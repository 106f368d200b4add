// The folders of a checkpoint.

/// The folders of a checkpoint's files. The folders differ only if a cache has these files at different commits.
package struct ModelFolders: Codable, Sendable {
    /// The folder of `config.json`.
    package let config: String
    /// The folder of the tokenizer's file.
    package let tokenizer: String
    /// The folder of the weights and their index.
    package let weights: String

    /// Creates the folders of a checkpoint whose files are in different folders.
    package init(config: String, tokenizer: String, weights: String) {
        (self.config, self.tokenizer, self.weights) = (config, tokenizer, weights)
    }

    /// Creates the folders of a checkpoint whose files are all in `directory`.
    package init(_ directory: String) {
        self.init(config: directory, tokenizer: directory, weights: directory)
    }
}
