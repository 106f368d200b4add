// Recognizes a folder of Hugging Face's cache that a user gives in place of a snapshot.

import Files

/// A folder of Hugging Face's cache that is not a snapshot: the cache itself, or the folder of a repository.
package enum CacheFolder: Equatable, Sendable {
    /// The folder of one repository, or its subfolder `snapshots`, `blobs` or `refs`. `name` is the repository's id
    /// ("google/gemma-2-2b"). `snapshot` is the path of the snapshot that `refs/main` names, otherwise of the only
    /// snapshot. Nil if neither exists.
    case repository(name: String, snapshot: String?)
    /// The cache itself: its path, and the paths of its repositories' folders.
    case root(path: String, repositories: [String])

    /// Recognizes the folder at `path`. If the folder's subfolder `hub` is a cache, recognizes that cache. Nil for
    /// any other folder, such as a snapshot or a folder outside the cache.
    package init?(path: String) {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        let repository = [path, parentFolder(of: path)].first {
            CacheFolder.isRepository($0)
                && ($0 == path
                    || ["snapshots", "blobs", "refs"].contains(path.split(separator: "/").last))
        }
        if let repository {
            self = .repository(
                name: CacheFolder.name(repository), snapshot: CacheFolder.snapshot(in: repository))
            return
        }
        for root in [path, path + "/hub"] {
            let folders = ((try? directoryContents(root)) ?? []).map { "\(root)/\($0)" }
                .filter(CacheFolder.isRepository)
            if !folders.isEmpty {
                self = .root(path: root, repositories: folders)
                return
            }
        }
        return nil
    }

    /// Returns the path of a snapshot of the repository `id` ("google/gemma-2-2b"); nil if none exists. The folder of
    /// one repository ignores `id` and returns its own snapshot.
    package func snapshot(of id: String) -> String? {
        switch self {
        case .repository(_, let snapshot): snapshot
        case .root(_, let repositories):
            repositories.first { CacheFolder.name($0) == id }.flatMap(CacheFolder.snapshot)
        }
    }

    private static func isRepository(_ path: String) -> Bool {
        let name = path.split(separator: "/").last ?? ""
        return ["models--", "datasets--"].contains { name.hasPrefix($0) }
            && isDirectory(path + "/snapshots")
    }

    /// Returns the id "google/gemma-2-2b" for the folder "…/models--google--gemma-2-2b".
    private static func name(_ repository: String) -> String {
        let name = repository.split(separator: "/").last.map(String.init) ?? repository
        return name.split(separator: "--", omittingEmptySubsequences: false).dropFirst().joined(
            separator: "/")
    }

    private static func snapshot(in repository: String) -> String? {
        let folder = repository + "/snapshots"
        let commits = ((try? directoryContents(folder)) ?? []).filter {
            isDirectory("\(folder)/\($0)")
        }
        let main = (try? MappedFile(path: repository + "/refs/main"))?.withBytes {
            String(decoding: $0.prefix(100), as: UTF8.self).filter { !$0.isWhitespace }
        }
        let commit = commits.first { $0 == main } ?? (commits.count == 1 ? commits[0] : nil)
        return commit.map { "\(folder)/\($0)" }
    }
}
