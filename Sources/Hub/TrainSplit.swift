// Chooses the files of a dataset's split `train`. If the card names files, the card decides; otherwise the file names
// decide. The rules for JSON files are those of Python's datasets library (data_files.py, load.py).

import ByteJSON

/// Chooses the training files of a dataset.
enum TrainSplit {
    /// The training files, in the order in which they are read.
    struct Choice: Equatable {
        var files: [String] = []
        /// Remarks about the choice, which are logged as warnings.
        var remarks: [String] = []
    }

    // MARK: Kinds

    private static let json = [".json", ".jsonl", ".ndjson"]
    private static let compressions = ["", ".gz", ".zst"]

    /// Extensions of the other data files that the datasets library reads.
    private static let others: Set = [
        ".parquet", ".geoparquet", ".gpq", ".lance", ".vortex", ".arrow", ".csv", ".tsv", ".txt",
        ".tar", ".xml", ".hdf5", ".h5", ".zip",
    ]

    /// Returns all extensions of the file at `path`: `.jsonl` and `.gz` for `a.jsonl.gz`.
    private static func endings(_ path: String) -> [String] {
        name(path).split(separator: ".", omittingEmptySubsequences: false).dropFirst()
            .map { "." + $0 }
    }

    private static func isJSON(_ path: String) -> Bool {
        endings(path).contains(where: json.contains)
    }

    /// Whether the corpus reader of this program can read the file.
    private static func isReadable(_ path: String) -> Bool {
        json.contains { ending in compressions.contains { path.hasSuffix(ending + $0) } }
    }

    /// Whether the most frequent extension in `paths` is a JSON extension. If so, the datasets library reads only the
    /// JSON files. In a tie, parquet, lance, vortex and arrow take precedence over JSON.
    private static func areMostlyJSON(_ paths: [String]) -> Bool {
        var counts: [String: Int] = [:]
        for ending in paths.flatMap({ endings($0.lowercased()) })
        where json.contains(ending) || others.contains(ending) {
            counts[ending, default: 0] += 1
        }
        let preferred = [".csv", ".json", ".jsonl", ".arrow", ".vortex", ".lance", ".parquet"]
        let most = counts.max { first, second in
            func rank(_ ending: String) -> Int { preferred.firstIndex(of: ending) ?? -1 }
            return (first.value, rank(first.key), first.key)
                < (second.value, rank(second.key), second.key)
        }
        return most.map { json.contains($0.key) } ?? false
    }

    // MARK: Names

    private static func name(_ path: String) -> Substring {
        path.split(separator: "/").last ?? ""
    }

    /// Files that describe the data and contain no records.
    private static let ignored: Set<Substring> = [
        "README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip",
        "dataset_dict.json",
    ]

    /// Returns the paths that match `pattern`, sorted by their bytes. Hidden files, files in folders like `__a`, and
    /// files that describe the data match only if the pattern names them.
    private static func resolve(_ pattern: GlobPattern, _ paths: [String]) -> [String] {
        func hidden(_ path: String) -> Int {
            path.split(separator: "/").count { $0.hasPrefix(".") && $0.contains { $0 != "." } }
        }
        func special(_ path: String) -> Int {
            path.split(separator: "/").dropLast().count { $0.hasPrefix("__") }
        }
        return paths.filter { path in
            pattern.matches(path)
                && (!ignored.contains(name(path)) || name(pattern.text) == name(path))
                && hidden(path) == hidden(pattern.text) && special(path) == special(pattern.text)
        }.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    private static let keywords = [
        ("train", ["train", "training"]), ("validation", ["validation", "valid", "dev", "val"]),
        ("test", ["test", "testing", "eval", "evaluation"]),
    ]
    private static let gap = "[-._ 0-9]"

    private static func folderPatterns(_ word: String) -> [String] {
        [
            "**/\(word)/**", "**/\(word)\(gap)*/**", "**/*\(gap)\(word)/**",
            "**/*\(gap)\(word)\(gap)*/**",
        ]
    }

    private static func filePatterns(_ word: String) -> [String] {
        ["**/\(word)\(gap)*", "**/*\(gap)\(word)\(gap)*"]
    }

    private static func splits(
        _ patterns: (String) -> [String]
    ) -> [(split: String, patterns: [GlobPattern])] {
        keywords.map { ($0.0, $0.1.flatMap(patterns).map { GlobPattern($0)! }) }
    }

    private static let byFolder = splits(folderPatterns)
    private static let byFile = splits(filePatterns)

    private static let digits = String(repeating: "[0-9]", count: 5)
    private static func shards(_ split: String) -> GlobPattern {
        GlobPattern("data/\(split)-\(digits)-of-\(digits)*.*")!
    }

    /// Returns the patterns of the split `train`. Names of splits are looked for in three places: names of shards in
    /// `data`, then folder names, then file names. The first place that names any split decides. Throws if it does
    /// not name `train`. If no place names a split, returns a pattern for all files.
    private static func patterns(_ paths: [String]) throws(NoTrainSplit) -> [GlobPattern] {
        func refusal(_ splits: [String]) -> NoTrainSplit {
            NoTrainSplit(
                reason:
                    "its file names belong to the \(splits.count == 1 ? "split" : "splits") \(splits.joined(separator: ", ")), and no file name belongs to the split train"
            )
        }
        let sharded = resolve(shards("*"), paths)
        if !sharded.isEmpty {
            let splits = Set(
                sharded.map { path -> String in
                    let name = String(name(path))
                    let ends = name.matches(of: /-[0-9]{5}-of-[0-9]{4}/)
                    return ends.last.map { String(name[..<$0.range.lowerBound]) } ?? name
                })
            guard splits.contains("train") else { throw refusal(splits.sorted()) }
            return [shards("train")]
        }
        for families in [byFolder, byFile] {
            let found = families.filter { family in
                family.patterns.contains { pattern in !resolve(pattern, paths).isEmpty }
            }
            if found.isEmpty { continue }
            guard let train = found.first(where: { $0.split == "train" }) else {
                throw refusal(found.map(\.split))
            }
            return train.patterns
        }
        return [GlobPattern("**")!]
    }

    // MARK: Choosing

    /// Returns the training files among `paths`. Throws if none exists, or if one of them cannot be read.
    static func choose(_ paths: [String], _ card: DatasetCard) throws(NoTrainSplit) -> Choice {
        guard !paths.contains(".huggingface.yaml") else {
            throw NoTrainSplit(
                reason:
                    "its file .huggingface.yaml names the data files, and this program does not read .huggingface.yaml"
            )
        }
        let training = try card.training()
        let prefix = training.folder.isEmpty ? "" : training.folder + "/"
        let inside = paths.filter { $0.utf8.starts(with: prefix.utf8) }.map {
            String(decoding: $0.utf8.dropFirst(prefix.utf8.count), as: UTF8.self)
        }
        var choice: Choice
        if let patterns = training.patterns {
            choice = try named(patterns, inside, prefix)
        } else {
            choice = try unnamed(inside, prefix)
        }
        for file in choice.files where !isReadable(file) {
            throw NoTrainSplit(
                reason:
                    "the training file \(prefix)\(file) cannot be read: its name does not end in .json, .jsonl or .ndjson, with or without .gz or .zst"
            )
        }
        let stems = Dictionary(grouping: choice.files, by: stem).values.filter { $0.count > 1 }
        for twins in stems.sorted(by: { $0[0] < $1[0] }) {
            choice.remarks.append(
                "\(twins.map { prefix + $0 }.joined(separator: " and ")) may contain the same records; all of them are read, as in the datasets library"
            )
        }
        choice.files = choice.files.map { prefix + $0 }
        return choice
    }

    /// Returns the files that match `patterns`, the patterns in the card.
    private static func named(
        _ patterns: [String], _ paths: [String], _ prefix: String
    ) throws(NoTrainSplit) -> Choice {
        let all = patterns.map { prefix + $0 }.joined(separator: ", ")
        func refusal(_ rest: String) -> NoTrainSplit {
            NoTrainSplit(reason: "its card names \(all) for the split train, but \(rest)")
        }
        var choice = Choice()
        for text in patterns {
            guard let pattern = GlobPattern(text) else {
                throw refusal(
                    "\(text) is not a supported pattern (a pattern is a relative path without .. and not a URL, and ** is a whole part of the path)"
                )
            }
            let found = resolve(pattern, paths)
            let data = found.filter { isJSON($0) || endings($0).contains(where: others.contains) }
            guard !data.isEmpty || pattern.isWild else {
                throw refusal(
                    found.isEmpty
                        ? "the repository has no file \(prefix)\(text)\(text.contains("{") ? " (braces have no special meaning)" : "")"
                        : "\(prefix)\(text) is not a JSON or JSONL file")
            }
            if let other = data.first(where: { !isJSON($0) }) {
                throw refusal("\(prefix)\(other) is not a JSON or JSONL file")
            }
            if data.isEmpty {
                choice.remarks.append("no JSON or JSONL file matches \(prefix)\(text)")
            }
            add(data, to: &choice)
        }
        guard !choice.files.isEmpty else { throw refusal("no JSON or JSONL file matches") }
        return choice
    }

    /// Chooses files by their paths: those of the split `train`, or all if no path contains the name of a split.
    private static func unnamed(
        _ paths: [String], _ prefix: String
    ) throws(NoTrainSplit) -> Choice {
        let place = prefix.isEmpty ? "the repository" : "its folder \(prefix.dropLast())"
        var choice = Choice()
        for pattern in try patterns(paths) { add(resolve(pattern, paths), to: &choice) }
        let data = choice.files.filter {
            isJSON($0) || endings($0).contains(where: others.contains)
        }
        guard data.contains(where: isJSON) else {
            throw NoTrainSplit(
                reason: data.contains { $0.hasSuffix(".parquet") }
                    ? "\(place) has only parquet files, and this program does not read parquet"
                    : "\(place) has no JSON or JSONL files\(paths.contains { isJSON($0) && !ignored.contains(name($0)) } ? " of the split train" : "")"
            )
        }
        guard areMostlyJSON(data) else {
            throw NoTrainSplit(
                reason:
                    "most of its training files are not JSON; the datasets library reads only these other files, which this program cannot read: \(data.filter { !isJSON($0) }.map { prefix + $0 }.joined(separator: ", "))"
            )
        }
        choice.files = data.filter { isJSON($0) || endings($0).contains(".zip") }
        let rest = data.filter { !choice.files.contains($0) }
        if !rest.isEmpty {
            choice.remarks.append(
                "these files are not read, because most training files are JSON: \(rest.map { prefix + $0 }.joined(separator: ", "))"
            )
        }
        let doubtful = choice.files.filter { path in
            (byFolder + byFile).contains { family in
                family.split != "train" && family.patterns.contains { $0.matches(path) }
            }
        }
        if !doubtful.isEmpty {
            choice.remarks.append(
                "these files are read as training files, as in the datasets library, although their names also match another split: \(doubtful.map { prefix + $0 }.joined(separator: ", "))"
            )
        }
        return choice
    }

    /// Adds the files in `files` that `choice` does not have yet. Several patterns may match the same file.
    private static func add(_ files: [String], to choice: inout Choice) {
        // Names are compared byte by byte: names that look alike may belong to different files.
        let known = Set(choice.files.map(ExactString.init))
        choice.files += files.filter { !known.contains(ExactString($0)) }
    }

    /// Returns `path` without the extensions of JSON and of compression: `a` for `a.jsonl.gz`.
    private static func stem(_ path: String) -> String {
        var path = path
        for ending in compressions.dropFirst() + json where path.hasSuffix(ending) {
            path.removeLast(ending.count)
        }
        return path
    }
}

/// Returns the shards that are missing in `paths`. Example: `a-00001-of-00002`, if only `a-00000-of-00002` exists.
/// Ignores files without shard numbers.
func missingShards(_ paths: [String]) -> [String] {
    let present = Set(paths.map(ExactString.init))
    // Each series of shards is examined once, not once per shard.
    var series: Set<ExactString> = []
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
        guard series.insert(ExactString(shard(""))).inserted else { return [] }
        return (0..<count).map { index in
            let digits = String(index)
            return shard(String(repeating: "0", count: 5 - digits.count) + digits)
        }.filter { !present.contains(ExactString($0)) }
    }
}
