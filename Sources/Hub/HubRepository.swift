// Names of repositories of the Hugging Face Hub: in URLs, in the cache and in messages.

/// What a repository holds.
public enum RepositoryKind: String, Codable, Sendable {
    /// A model, or SAEs.
    case model
    /// A dataset.
    case dataset
}

/// A repository at a revision: a branch, a tag or a commit.
public struct RepositoryReference: Hashable, Codable, Sendable, CustomStringConvertible {
    /// Whether the repository is a model or a dataset.
    public let kind: RepositoryKind
    /// The repository's name on the Hub, such as `google/gemma-2-2b`.
    public let id: String
    /// `main`, `v1.0`, `refs/pr/1`, or a commit's 40 hexadecimal digits.
    public let revision: String

    /// Creates a reference to the repository `id` at `revision`; nil if either is invalid. Both become parts of URLs and paths,
    /// so only the characters of the Hub's names are allowed.
    public init?(_ kind: RepositoryKind, _ id: String, revision: String) {
        let parts = id.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), parts.allSatisfy(isName), !id.contains("--"),
            !revision.isEmpty,
            revision.split(separator: "/", omittingEmptySubsequences: false).allSatisfy(isName)
        else { return nil }
        (self.kind, self.id, self.revision) = (kind, id, revision)
    }

    /// Whether the revision is a whole commit id. Its files never change then.
    public var isCommit: Bool { isCommitID(revision) }

    /// The id, with the revision if it is not `main`: "google/gemma-2-2b", "google/gemma-2-2b (revision v1.0)".
    public var description: String { revision == "main" ? id : "\(id) (revision \(revision))" }

    /// The flags that set the revision, for messages.
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

/// Whether `text` has only letters, digits, `-`, `_` and `.`, and is not a step in a path (`.` or `..`).
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
