// Names of repositories on the Hugging Face Hub: in URLs, in the cache and in messages.

/// The kind of a repository.
package enum RepositoryKind: String, Codable, Sendable {
    /// A repository with a model or with SAEs.
    case model
    /// A repository with a dataset.
    case dataset
}

/// A repository at a revision. The revision is a branch, a tag or a commit.
package struct RepositoryReference: Hashable, Codable, Sendable, CustomStringConvertible {
    /// Whether the repository is a model or a dataset.
    package let kind: RepositoryKind
    /// The repository's name on the Hub, such as `google/gemma-2-2b`.
    package let id: String
    /// A branch (`main`), a tag (`v1.0`), another git reference (`refs/pr/1`), or a commit (40 hexadecimal digits).
    package let revision: String

    /// Creates a reference to the repository `id` at `revision`. Both become parts of URLs and paths. Returns nil if
    /// one of them is not a name that the Hub allows.
    package init?(_ kind: RepositoryKind, _ id: String, revision: String) {
        let parts = id.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), parts.allSatisfy(isName), !id.contains("--"),
            !revision.isEmpty,
            revision.split(separator: "/", omittingEmptySubsequences: false).allSatisfy(isName)
        else { return nil }
        (self.kind, self.id, self.revision) = (kind, id, revision)
    }

    /// Whether the revision is a full commit id. The files of such a revision never change.
    package var isCommit: Bool { isCommitID(revision) }

    /// The id, followed by the revision if it is not `main`: "google/gemma-2-2b (revision v1.0)".
    package var description: String { revision == "main" ? id : "\(id) (revision \(revision))" }

    /// The command-line flags that set the revision, for messages.
    var revisionFlags: String {
        kind == .dataset ? "--data_revision" : "--revision for the model, --sae_revision for SAEs"
    }

    /// The path of the repository in the Hub's API: `/api/models/google/gemma-2-2b`.
    var apiPath: String { "/api/\(kind.rawValue)s/\(id)" }

    /// The path of the repository's web page below the endpoint: `/google/gemma-2-2b`.
    var page: String { (kind == .dataset ? "/datasets/" : "/") + id }

    /// The name of the repository's folder in the cache: `models--google--gemma-2-2b`.
    var folderName: String { "\(kind.rawValue)s--" + id.replacing("/", with: "--") }
}

/// Whether `text` has only letters, digits, `-`, `_` and `.`, and is neither `.` nor `..`.
private func isName(_ text: Substring) -> Bool {
    guard !text.isEmpty, text != ".", text != ".." else { return false }
    return text.utf8.allSatisfy {
        switch $0 {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
            UInt8(ascii: "."):
            true
        default: false
        }
    }
}

/// Whether `text` is 40 lower-case hexadecimal digits.
func isCommitID(_ text: some StringProtocol) -> Bool { isHexadecimal(text, count: 40) }

/// Whether `text` is `count` lower-case hexadecimal digits.
func isHexadecimal(_ text: some StringProtocol, count: Int) -> Bool {
    text.utf8.count == count
        && text.utf8.allSatisfy {
            (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
        }
}
