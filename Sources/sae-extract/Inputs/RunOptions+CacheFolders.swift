// Refuses a folder of the Hub's cache that is not a snapshot.

import Files
import Hooks
import Hub
import Planning
import SparseAutoencoders

extension RunOptions {
    /// Throws `UsageError` if `folder` (the model's folder) or `--sae_dir` is the Hub's cache or a repository's
    /// folder in it. The message suggests a snapshot.
    func checkCacheFolders(_ label: String, _ folder: String?) throws {
        func refuse(_ path: String, _ flag: String, _ cache: CacheFolder, _ snapshot: String?)
            throws
        {
            switch cache {
            case .repository(let name, _):
                throw UsageError(
                    flag,
                    "\(path) is the folder of \(name) in Hugging Face's cache, not one of its snapshots; give \(snapshot ?? "\(path)/snapshots/COMMIT")"
                )
            case .root(let root, _):
                throw UsageError(
                    flag,
                    "\(path) is Hugging Face's cache; \(snapshot.map { "give \($0), or " } ?? "")leave \(flag) out and set HF_HUB_CACHE=\(shellWord(root))"
                )
            }
        }
        if let folder, !isListed(folder + "/config.json"), let cache = CacheFolder(path: folder) {
            let flag = modelPath == nil ? "--model" : "--model_path"
            try refuse(folder, flag, cache, cache.snapshot(of: label))
        }
        if let path = saeDirectory,
            SAETree(directory: path, size: ScopeSize(label: label)).isEmpty,
            let cache = CacheFolder(path: path)
        {
            let snapshot: String? = if case .repository(_, let found) = cache { found } else { nil }
            try refuse(path, "--sae_dir", cache, snapshot)
        }
    }
}
