// What files a commit has: the Hub's tree API, and the copy of its answer in the cache.

import ArrayFiles
import ByteJSON

/// A file of a repository.
public struct RepositoryFile: Equatable, Sendable {
    /// Its path within the repository.
    public let path: String
    /// Bytes.
    public let size: Int
    /// What its content must hash to, which is its name in the cache.
    let digest: Digest

    /// SHA-256 for files in large file storage (LFS), else git's id of the content. A mirror that leaves LFS out of its list
    /// gives for such a file git's id of the pointer to it.
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

/// The files of one commit, which never change.
struct RepositoryListing: Equatable, Sendable {
    /// By path.
    private(set) var files: [String: RepositoryFile] = [:]
    /// What a dataset's card says of its files; nil where that is not known.
    var card: DatasetCard?

    init(files: [RepositoryFile] = []) {
        for file in files { self.files[file.path] = file }
    }

    // MARK: The Hub's form

    /// Adds the entries of one page of `/api/…/tree/…`. Folders are passed over. False where it is not such a page.
    mutating func add(page: JSONValue) -> Bool {
        guard let entries = page.array else { return false }
        for entry in entries {
            guard let object = entry.object, let type = object["type"]?.string else { return false }
            if type != "file" { continue }
            guard let path = object["path"]?.string, isRelativePath(path) else { return false }
            let lfs = object["lfs"]?.object
            guard
                let file = RepositoryListing.file(
                    path, size: lfs?["size"]?.integer ?? object["size"]?.integer,
                    blob: object["oid"]?.string, sha256: lfs?["oid"]?.string)
            else { return false }
            files[path] = file
        }
        return true
    }

    /// Adds the `siblings` of `/api/…/revision/…?blobs=true`. False where they are not of that form, or lack sizes or ids.
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
            files[path] = file
        }
        return true
    }

    private static func file(
        _ path: String, size: Int?, blob: String?, sha256: String?
    ) -> RepositoryFile? {
        // Sizes are added up; no repository comes near this one.
        guard let size, size >= 0, size < 1 << 50 else { return nil }
        if let sha256 {
            guard isHexadecimal(sha256, count: 64) else { return nil }
            return RepositoryFile(path: path, size: size, digest: .sha256(sha256))
        }
        guard let blob, isCommitID(blob) else { return nil }
        return RepositoryFile(path: path, size: size, digest: .gitBlob(blob))
    }

    // MARK: The cache's form

    /// Reads `trees/COMMIT.json` as huggingface_hub (from 2.0) writes it, and our own, which is the same with a member
    /// more. Nil where there is none or it is of another form: it can be asked for again.
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
            files[path] = file
        }
        card = object["card"]?.object.map(DatasetCard.init(cached:))
    }

    /// The form that `init(path:)` reads.
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
        if let card { object["card"] = .object(card.json) }
        return .object(object)
    }
}

/// Whether `path` stays within the folder that it is taken to be in.
private func isRelativePath(_ path: String) -> Bool {
    !path.utf8.contains(0) && pathSteps(path).allSatisfy { !["", ".", ".."].contains($0) }
}
