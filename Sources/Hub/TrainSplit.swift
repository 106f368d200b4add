// Which of a dataset's files are its split `train`, by the rules of Python's datasets library (data_files.py): what the
// card names, else what the files' names say.

import ByteJSON
import Glibc

/// Choosing a dataset's training files.
enum TrainSplit {
    /// The endings of files that the corpus reader takes.
    private static let kinds = [[".jsonl", ".ndjson"], [".json"]]
    private static let compressions = ["", ".gz", ".zst"]

    /// The patterns that a dataset's card has for `train`, in the default configuration; nil where it has none.
    static func patterns(card: JSONValue?) -> [String]? {
        let configurations = (card?.object?["configs"]?.array ?? []).compactMap(\.object)
        let standard =
            configurations.first { $0["default"]?.bool == true }
            ?? configurations.first { $0["config_name"]?.string == "default" }
            ?? (configurations.count == 1 ? configurations[0] : nil)
        func strings(_ value: JSONValue?) -> [String] {
            value?.string.map { [$0] } ?? value?.array?.compactMap(\.string) ?? []
        }
        guard let files = standard?["data_files"] else { return nil }
        // A name, names, or lists of names by split.
        var patterns = strings(files)
        for entry in files.array ?? [files] {
            guard let object = entry.object, object["split"]?.string == "train" else { continue }
            patterns += strings(object["path"])
        }
        return patterns.isEmpty ? nil : patterns
    }

    /// The training files among `paths`, in order; the reason where there are none.
    static func choose(_ paths: [String], patterns: [String]?) -> Result<[String], NoTrainSplit> {
        let readable = paths.filter { kind($0) != nil }.sorted {
            $0.utf8.lexicographicallyPrecedes($1.utf8)
        }
        guard !readable.isEmpty else {
            let hasParquet = paths.contains { $0.hasSuffix(".parquet") }
            return .failure(
                NoTrainSplit(
                    reason: hasParquet
                        ? "it has parquet files only, which this program does not read"
                        : "it has no JSON or JSONL files"))
        }
        if let patterns {
            let named = patterns.flatMap { pattern in readable.filter { matches($0, pattern) } }
            var seen: Set<String> = []
            let files = named.filter { seen.insert($0).inserted }
            if !files.isEmpty { return .success(files) }
            return .failure(
                NoTrainSplit(
                    reason:
                        "its card names \(patterns.joined(separator: ", ")) for the split train, and no JSON or JSONL file is of that name"
                ))
        }
        let training = readable.filter { !words($0).isDisjoint(with: ["train", "training"]) }
        let others: Set = [
            "test", "testing", "eval", "evaluation", "valid", "validation", "val", "dev",
        ]
        let chosen =
            training.isEmpty ? readable.filter { words($0).isDisjoint(with: others) } : training
        // The same records may be there in both forms.
        let byKind = kinds.indices.map { index in chosen.filter { kind($0) == index } }
        guard let files = byKind.first(where: { !$0.isEmpty }) else {
            return .failure(
                NoTrainSplit(
                    reason:
                        "none of its files is of a split train: \(readable.joined(separator: ", "))"
                ))
        }
        return .success(files)
    }

    private static func kind(_ path: String) -> Int? {
        kinds.firstIndex { endings in
            endings.contains { ending in
                compressions.contains { path.hasSuffix(ending + $0) }
            }
        }
    }

    /// The path's words: what lies between characters that are no letters.
    private static func words(_ path: String) -> Set<String> {
        Set(path.lowercased().split { !$0.isLetter }.map(String.init))
    }

    private static func matches(_ path: String, _ pattern: String) -> Bool {
        // A star does not pass a slash; two do.
        fnmatch(pattern, path, pattern.contains("**") ? 0 : FNM_PATHNAME) == 0
            || pattern.hasPrefix("**/") && fnmatch(String(pattern.dropFirst(3)), path, 0) == 0
    }
}

/// Why a dataset cannot be read.
struct NoTrainSplit: Error {
    let reason: String
}
