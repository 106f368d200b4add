// The list of a commit's files: the response of the Hub's tree API, and its copy in the cache.

import ByteJSON
import Files
import Logging

/// A file of a repository on the Hub.
package struct RepositoryFile: Equatable, Sendable {
    /// The path of the file in the repository.
    package let path: String
    /// The size of the file in bytes.
    package let size: Int
    /// The expected digest of the content. The digest is also the name of the blob in the cache.
    let digest: Digest

    /// The SHA-256 for a file in Git LFS (large file storage); git's id of the content for any other file. If a
    /// mirror omits the LFS data, an LFS file has git's id of its small pointer file.
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
    /// The commit of the revision.
    let commit: String
    /// What a dataset's card says about the data files; nil if the response has no card.
    let card: DatasetCard?
    /// The paths of the commit's files; nil if the response has none. For a large repository, some may be missing.
    let names: Set<ExactString>?

    /// Reads the response of `/api/…/revision/…`. Nil if the response names no commit.
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

/// The list of the files of one commit. The files of a commit never change.
struct RepositoryListing: Sendable {
    /// The files by path. Paths are compared byte by byte: the two Unicode forms of "é" give two different files.
    private(set) var files: [ExactString: RepositoryFile] = [:]
    /// What a dataset's card says about the data files; nil if this is unknown.
    var card: DatasetCard?
    /// Whether this list contains all files that the Hub names in its response about the commit.
    var isChecked = false
    /// The folders that the pages of the Hub's tree API name.
    private var folders: Set<String> = []

    init(files: [RepositoryFile] = []) {
        for file in files { add(file) }
    }

    private mutating func add(_ file: RepositoryFile) { files[ExactString(file.path)] = file }

    /// The file at `path`; nil if it does not exist.
    subscript(path: String) -> RepositoryFile? { files[ExactString(path)] }

    /// The paths of the files, in no particular order.
    var paths: [String] { files.keys.map(\.string) }

    /// Returns the reason why this list is incomplete; nil if none is found. The list must have all files that
    /// `information` names, and a file in each folder.
    func flaw(_ information: RepositoryInformation) -> String? {
        if files.isEmpty { return "is empty" }
        if let names = information.names {
            let lost = names.filter { files[$0] == nil }
            if let first = lost.map(\.string).min() {
                return
                    "lacks \(lost.count) of the \(names.count) files named in the answer about the commit, such as \(first)"
            }
        }
        // Git stores no empty folders. So a folder without files shows that files are missing in the list.
        var filled: Set<Substring> = []
        for path in paths {
            var folder = path[...]
            while let slash = folder.lastIndex(of: "/") {
                folder = folder[..<slash]
                guard filled.insert(folder).inserted else { break }
            }
        }
        return folders.filter { !filled.contains($0[...]) }.min().map {
            "has the folder \($0) but no file in this folder"
        }
    }

    // MARK: The Hub's form

    /// Adds the files and folders of one page of the Hub's tree API. Returns false if `page` has another form.
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

    /// Adds the files in `siblings`, which is part of the response of `/api/…/revision/…?blobs=true`. Returns false
    /// if `siblings` has another form, or if a size or digest is missing.
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

    /// Reads a listing from a file of the cache: `trees/COMMIT.json` of huggingface_hub (from version 2.0), or this
    /// program's file, which has two more members. Nil if the file is missing, has another form, or names no files.
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
        // No repository is empty. The program that wrote an empty list had no response from the Hub.
        if files.isEmpty { return nil }
        isChecked = object["is_checked"]?.bool == true
        if let configs = object["configs"] {
            card = DatasetCard()
            card?.configs = configs
        }
    }

    /// This list as JSON, in the form that `init(path:)` reads.
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
    /// Returns the list of all files of the commit that `information` names. The Hub sends two lists: the tree, and
    /// the `siblings`. If the tree is incomplete, returns the `siblings`. Throws `HubError` if both are incomplete.
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
                "\(reference): the list of files from \(settings.namedEndpoint) \(flaw); using the list in its answer about the commit"
            )
            return other
        }
        throw HubError.notAHub(
            endpoint: settings.namedEndpoint,
            reason: "the list of \(reference)'s files \(flaw)")
    }
}

/// Whether `path` is a relative path that stays in its folder, because it has no `..`.
private func isRelativePath(_ path: String) -> Bool {
    !path.utf8.contains(0) && pathSteps(path).allSatisfy { !["", ".", ".."].contains($0) }
}
