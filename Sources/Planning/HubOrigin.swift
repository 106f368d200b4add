// The origin of an input on the Hugging Face Hub.

/// The repository and commit of an input on the Hugging Face Hub.
package struct HubOrigin: Codable, Equatable, Sendable {
    /// The name of the repository, such as `google/gemma-2-2b`.
    package let repository: String
    /// The revision that the user asked for.
    package let revision: String
    /// The commit to which the revision was resolved.
    package let commit: String

    /// Creates the origin in `repository` at `commit`.
    package init(repository: String, revision: String, commit: String) {
        (self.repository, self.revision, self.commit) = (repository, revision, commit)
    }
}
