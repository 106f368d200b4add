// Which of a dataset's files are its split `train`: what the card names, else what the files' names say, after the rules of
// Python's datasets library (data_files.py) as far as they concern JSON.

import ByteJSON
import FoundationEssentials
import Glibc

/// What a dataset's card says of its files, in the configuration that is read without naming one.
struct DatasetCard: Equatable, Sendable {
    /// The files of the split `train`, as patterns; nil where none are named.
    var patterns: [String]?
    /// The only folder that counts.
    var folder: String?
    /// The names of the configurations, where there are several and none is the one to take.
    var choices: [String] = []

    init() {}

    /// Reads `cardData` of the Hub's answer.
    init(_ card: JSONValue?) {
        let configurations = (card?.object?["configs"]?.array ?? []).compactMap(\.object)
        let standard =
            configurations.first { $0["default"]?.bool == true }
            ?? configurations.first { $0["config_name"]?.string == "default" }
            ?? (configurations.count == 1 ? configurations[0] : nil)
        guard let standard else {
            choices = configurations.map { $0["config_name"]?.string ?? "?" }
            return
        }
        folder = standard["data_dir"]?.string
        func strings(_ value: JSONValue?) -> [String] {
            value?.string.map { [$0] } ?? value?.array?.compactMap(\.string) ?? []
        }
        guard let files = standard["data_files"] else { return }
        // A name, names, or lists of names by split.
        var named = strings(files)
        for entry in files.array ?? [files] {
            guard let object = entry.object, object["split"]?.string == "train" else { continue }
            named += strings(object["path"])
        }
        patterns = named.isEmpty ? nil : named
    }

    /// Reads what `json` has written.
    init(cached object: JSONObject) {
        patterns = object["patterns"]?.array?.compactMap(\.string)
        folder = object["folder"]?.string
        choices = object["choices"]?.array?.compactMap(\.string) ?? []
    }

    /// For the cache.
    var json: JSONObject {
        var object: JSONObject = ["choices": .array(choices.map(JSONValue.string))]
        if let patterns { object["patterns"] = .array(patterns.map(JSONValue.string)) }
        if let folder { object["folder"] = .string(folder) }
        return object
    }
}

/// Choosing a dataset's training files.
enum TrainSplit {
    /// The endings of files that the corpus reader takes.
    private static let kinds = [[".jsonl", ".ndjson"], [".json"]]
    private static let compressions = ["", ".gz", ".zst"]

    /// The training files among `paths`, in order; the reason where there are none.
    static func choose(_ paths: [String], _ card: DatasetCard) -> Result<[String], NoTrainSplit> {
        guard card.choices.isEmpty else {
            return .failure(
                NoTrainSplit(
                    reason:
                        "it has several configurations, none of them the default: \(card.choices.joined(separator: ", "))"
                ))
        }
        let paths = paths.filter { path in
            card.folder.map { path.hasPrefix($0 + "/") } ?? true
        }
        let readable = paths.filter { kind($0) != nil && !isHidden($0) }.sorted {
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
        if let patterns = card.patterns {
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

    /// What is about the data and not of them.
    private static func isHidden(_ path: String) -> Bool {
        let parts = path.split(separator: "/")
        return ["dataset_infos.json", "dataset_info.json"].contains(parts.last ?? "")
            || parts.contains { $0.hasPrefix(".") || $0.hasPrefix("__") }
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

/// Of files named `…-00000-of-00002…` those that are not among `paths`; the files that do not count themselves are no reason.
func missingShards(_ paths: [String]) -> [String] {
    let present = Set(paths)
    // Of the shards of one series each would ask for all others.
    var series: Set<String> = []
    return paths.flatMap { path -> [String] in
        guard let match = path.firstMatch(of: /-([0-9]{5})-of-([0-9]{5})/), let count = Int(match.2)
        else {
            return []
        }
        func shard(_ number: String) -> String {
            var other = path
            other.replaceSubrange(match.range, with: "-\(number)-of-\(match.2)")
            return other
        }
        guard series.insert(shard("")).inserted else { return [] }
        return (0..<count).map { index in
            let digits = String(index)
            return shard(String(repeating: "0", count: 5 - digits.count) + digits)
        }.filter { !present.contains($0) }
    }
}
