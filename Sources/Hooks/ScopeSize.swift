// The sizes of Gemma 2 for which Gemma Scope has SAEs, and the names of their SAE repositories.

/// The model size of a set of Gemma Scope repositories.
package enum ScopeSize: String, Codable, Sendable {
    /// Gemma 2 2B: the repositories `gemma-scope-2b-pt-…`.
    case small = "2b"
    /// Gemma 2 9B: the repositories `gemma-scope-9b-pt-…`.
    case large = "9b"

    /// Chooses the size from a model's label: 9b if the label has the word "9b", as in `google/gemma-2-9b-it`,
    /// otherwise 2b.
    package init(label: String) {
        let words = label.lowercased().split { !$0.isLetter && !$0.isNumber }
        self = words.contains("9b") ? .large : .small
    }

    /// Returns the name of the repository with the SAEs of a site, such as `gemma-scope-2b-pt-res`.
    package func repositoryName(site: String) -> String { "gemma-scope-\(rawValue)-pt-\(site)" }
}
