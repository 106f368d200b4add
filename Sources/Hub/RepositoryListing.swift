// The files of a commit: the answer of the Hub's tree API, and its copy in the cache.

import ByteJSON
import Files
import Logging

/// A file of a repository.
public struct RepositoryFile: Equatable, Sendable {
    /// The path in the repository.
    public let path: String
    /// The size in bytes.
    public let size: Int
    /// The digest that the content must have. It is the content's name in the cache.
    let digest: Digest

    /// SHA-256 for files in large file storage (LFS), otherwise git's id of the content. If a mirror leaves LFS out of its list,
    /// the id of such a file is git's id of the LFS pointer.
    enum Digest: Equatable, Sendable {
        case sha256(String)
        case gitBlob(String)

        var name: String {
            switch self {
            case .sha256(let digits), .gitBlob(let digits): digits
            }
        }
    }
}

/// The Hub's answer about a repository's revision.
struct RepositoryInformation: Sendable {
    /// The revision's commit.
    let commit: String
    /// What a dataset's card says about its files; nil if the answer does not tell.
    let card: DatasetCard?
    /// The paths of the commit's files; nil if the answer has none. Of a very large repository, some may be missing.
    let names: Set<ExactString>?

    /// Reads the answer of `/api/…/revision/…`. Nil if it names no commit.
    init?(_ answer: JSONValue) {
        guard let commit = answer.object?["sha"]?.string, isCommitID(commit) else { return nil }
        self.commit = commit
        let card = answer.object?["cardData"]
        self.card = card?.object == nil ? nil : DatasetCard(card)
        let names = answer.object?["siblings"]?.array?.compactMap {
            $0.object?["rfilename"]?.string.map(ExactString.init)
        }
        self.names = names.flatMap { $0.isEmpty ? nil : Set($0) }
    }
}

/// The files of one commit. They never change.
struct RepositoryListing: Sendable {
    /// The files by path. Two names that look alike and differ in their bytes ("é" in two forms) are two files.
    private(set) var files: [ExactString: RepositoryFile] = [:]
    /// What a dataset's card says about its files; nil if that is not known.
    var card: DatasetCard?
    /// Whether the list was compared with the files that the Hub names with the commit, and has all of them.
    var isChecked = false
    /// The folders that the Hub's pages name.
    private var folders: Set<String> = []

    init(files: [RepositoryFile] = []) {
        for file in files { add(file) }
    }

    private mutating func add(_ file: RepositoryFile) { files[ExactString(file.path)] = file }

    /// The file at `path`; nil if there is none.
    subscript(path: String) -> RepositoryFile? { files[ExactString(path)] }

    /// The paths of the files, in no particular order.
    var paths: [String] { files.keys.map(\.string) }

    /// Returns why this cannot be the whole list of the commit's files, as far as `information` and the list itself tell; nil if
    /// it may be.
    func flaw(_ information: RepositoryInformation) -> String? {
        if files.isEmpty { return "is empty" }
        if let names = information.names {
            let lost = names.filter { files[$0] == nil }
            if let first = lost.map(\.string).min() {
                return
                    "lacks \(lost.count) of the \(names.count) that are named with the commit, among them \(first)"
            }
        }
        // Git has no empty folders.
        var filled: Set<Substring> = []
        for path in paths {
            var folder = path[...]
            while let slash = folder.lastIndex(of: "/") {
                folder = folder[..<slash]
                guard filled.insert(folder).inserted else { break }
            }
        }
        return folders.filter { !filled.contains($0[...]) }.min().map {
            "has the folder \($0) and no file in it"
        }
    }

    // MARK: The Hub's form

    /// Adds the entries of one page of `/api/…/tree/…`, and notes the names of folders. Returns false if `page` is not such a
    /// page.
    mutating func add(page: JSONValue) -> Bool {
        guard let entries = page.array else { return false }
        for entry in entries {
            guard let object = entry.object, let type = object["type"]?.string else { return false }
            if type == "directory", let path = object["path"]?.string { folders.insert(path) }
            if type != "file" { continue }
            guard let path = object["path"]?.string, isRelativePath(path) else { return false }
            let lfs = object["lfs"]?.object
            guard
                let file = RepositoryListing.file(
                    path, size: lfs?["size"]?.integer ?? object["size"]?.integer,
                    blob: object["oid"]?.string, sha256: lfs?["oid"]?.string)
            else { return false }
            add(file)
        }
        return true
    }

    /// Adds the `siblings` of `/api/…/revision/…?blobs=true`. Returns false if they have another form, or lack sizes or ids.
    mutating func add(siblings: JSONValue) -> Bool {
        guard let entries = siblings.array else { return false }
        for entry in entries {
            let lfs = entry.object?["lfs"]?.object
            guard let object = entry.object, let path = object["rfilename"]?.string,
                isRelativePath(path),
                let file = RepositoryListing.file(
                    path, size: lfs?["size"]?.integer ?? object["size"]?.integer,
                    blob: object["blobId"]?.string, sha256: lfs?["sha256"]?.string)
            else { return false }
            add(file)
        }
        return true
    }

    private static func file(
        _ path: String, size: Int?, blob: String?, sha256: String?
    ) -> RepositoryFile? {
        // No repository has files of 2^50 bytes.
        guard let size, size >= 0, size < 1 << 50 else { return nil }
        if let sha256 {
            guard isHexadecimal(sha256, count: 64) else { return nil }
            return RepositoryFile(path: path, size: size, digest: .sha256(sha256))
        }
        guard let blob, isCommitID(blob) else { return nil }
        return RepositoryFile(path: path, size: size, digest: .gitBlob(blob))
    }

    // MARK: The cache's form

    /// Reads `trees/COMMIT.json` as huggingface_hub (from 2.0) writes it, and our own file, which has the same form with two more
    /// members. Nil if the file is missing or has another form: the Hub can be asked again.
    init?(path: String) {
        guard fileExists(path), let value = try? MappedFile(path: path).parsedJSON(),
            let object = value.object, object["format_version"]?.integer == 1,
            let members = object["files"]?.object?.members
        else { return nil }
        for (path, value) in members {
            guard let info = value.object, isRelativePath(path),
                let file = RepositoryListing.file(
                    path, size: info["lfs_size"]?.integer ?? info["size"]?.integer,
                    blob: info["blob_id"]?.string, sha256: info["lfs_sha256"]?.string)
            else { return nil }
            add(file)
        }
        // No repository is empty: the program that wrote this had no answer from the Hub.
        if files.isEmpty { return nil }
        isChecked = object["is_checked"]?.bool == true
        if let configs = object["configs"] {
            card = DatasetCard()
            card?.configs = configs
        }
    }

    /// The listing in the form that `init(path:)` reads.
    var json: JSONValue {
        let members = files.values.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
            .map { file -> (key: String, value: JSONValue) in
                var info: JSONObject = ["size": .integer(file.size)]
                switch file.digest {
                case .sha256(let digits):
                    info["lfs_sha256"] = .string(digits)
                    info["lfs_size"] = .integer(file.size)
                case .gitBlob(let digits): info["blob_id"] = .string(digits)
                }
                return (file.path, .object(info))
            }
        var object: JSONObject = [
            "format_version": .integer(1), "files": .object(JSONObject(members)),
        ]
        if isChecked { object["is_checked"] = .bool(true) }
        if let card { object["configs"] = card.configs }
        return .object(object)
    }
}

extension RepositoryListing: Equatable {
    static func == (first: RepositoryListing, second: RepositoryListing) -> Bool {
        (first.files, first.isChecked) == (second.files, second.isChecked)
            && first.card == second.card
    }
}

extension HubClient {
    /// Returns all files of the commit that `information` names. The Hub gives two lists: the tree, and the names in its answer
    /// about the commit. One of them must be whole. Throws `HubError`.
    func wholeListing(
        _ reference: RepositoryReference, _ information: RepositoryInformation
    ) async throws -> RepositoryListing {
        let tree = try await listing(reference, commit: information.commit)
        guard let flaw = tree.flaw(information) else { return tree }
        if let other = try? await siblings(reference, information.commit),
            other.flaw(information) == nil,
            tree.files.keys.allSatisfy({ other.files[$0] != nil })
        {
            log.warning(
                "\(reference): the list of files of \(settings.namedEndpoint) \(flaw); taking the one that it gives with the commit"
            )
            return other
        }
        throw HubError.notAHub(
            endpoint: settings.namedEndpoint,
            reason: "the list of \(reference)'s files \(flaw)")
    }
}

/// Whether `path` is relative and cannot leave the folder in which it is used.
private func isRelativePath(_ path: String) -> Bool {
    !path.utf8.contains(0) && pathSteps(path).allSatisfy { !["", ".", ".."].contains($0) }
}
