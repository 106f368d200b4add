// Reads the member `configs` of a dataset's card, which says which files contain the data. The rules are those of
// Python's datasets library (utils/metadata.py, data_files.py).

import ByteJSON
import Files

/// The part of a dataset's card that says which files contain the data.
struct DatasetCard: Equatable, Sendable {
    /// The member `configs` of the Hub's response; null if the card has none.
    var configs: JSONValue = .null

    init() {}

    /// Takes `configs` from `card`, which is the member `cardData` of the Hub's response.
    init(_ card: JSONValue?) {
        configs = card?.object?["configs"] ?? .null
    }

    /// The files of the split `train` in the default configuration, as the card describes them.
    struct Training: Equatable {
        /// The path of the folder with the files, without a slash at its end; empty for the whole repository.
        var folder = ""
        /// The patterns of the files, relative to `folder`. If nil, the names of the files decide which of them
        /// belong to `train`.
        var patterns: [String]?
    }

    /// Returns what the card says about the split `train`. Throws `NoTrainSplit` if the card is ambiguous, names
    /// files only for other splits, or has a member that this program cannot read.
    func training() throws(NoTrainSplit) -> Training {
        guard let entries = try entries(), !entries.isEmpty else { return Training() }
        let names = entries.map(\.name)
        let standard = entries.filter { entry in
            entries.count == 1 || entry.name == "default" || entry.object["default"]?.bool == true
        }
        guard let (name, entry) = standard.first else {
            throw NoTrainSplit(
                reason:
                    "its card has several configurations, and none of them is the default: \(names.joined(separator: ", "))"
            )
        }
        guard standard.count == 1 else {
            throw NoTrainSplit(
                reason:
                    "its card has several default configurations: \(standard.map(\.name).joined(separator: ", "))"
            )
        }
        func refusal(_ key: String) -> NoTrainSplit {
            NoTrainSplit(
                reason:
                    "in its card, the configuration '\(name)' has the key '\(key)' with the value \(entry[key]?.excerpt ?? "null"), which this program does not support"
            )
        }
        // This program refuses `field`, and every `encoding` except UTF-8. It ignores members that this function does
        // not name: they change only how Python represents the records.
        if let field = entry["field"], field != .null { throw refusal("field") }
        if let encoding = entry["encoding"], encoding != .null {
            guard ["utf-8", "utf8", "utf_8"].contains(encoding.string?.lowercased()) else {
                throw refusal("encoding")
            }
        }
        var training = Training()
        if let folder = entry["data_dir"], folder != .null {
            guard let path = folder.string, !path.hasPrefix("/"), !path.contains(":") else {
                throw refusal("data_dir")
            }
            let steps = path.split(separator: "/").filter { $0 != "." }
            guard !steps.contains("..") else { throw refusal("data_dir") }
            training.folder = steps.joined(separator: "/")
        }
        if let files = entry["data_files"], files != .null {
            guard let splits = DatasetCard.splits(files) else { throw refusal("data_files") }
            guard let patterns = splits.first(where: { $0.split == "train" })?.patterns else {
                throw NoTrainSplit(
                    reason:
                        "its card names files for \(splits.count == 1 ? "the split" : "the splits") \(splits.map(\.split).joined(separator: ", ")), but no files for the split train"
                )
            }
            training.patterns = patterns
        }
        return training
    }

    private func entries() throws(NoTrainSplit) -> [(name: String, object: JSONObject)]? {
        if configs == .null { return nil }
        func refusal(_ got: JSONValue, _ expected: String) -> NoTrainSplit {
            NoTrainSplit(
                reason:
                    "the key 'configs' of its card is invalid: expected \(expected), found \(got.excerpt)"
            )
        }
        guard let list = configs.array else { throw refusal(configs, "a list") }
        var entries: [(name: String, object: JSONObject)] = []
        for value in list {
            guard let object = value.object, let name = object["config_name"]?.string else {
                throw refusal(value, "objects with a config_name")
            }
            guard !entries.contains(where: { $0.name == name }) else {
                throw NoTrainSplit(reason: "its card has two configurations with the name \(name)")
            }
            entries.append((name, object))
        }
        return entries
    }

    /// Returns the patterns of each split in `files`, the value of `data_files`. `files` is one pattern, a list of
    /// patterns, or patterns for each split. Nil if `files` has another form.
    private static func splits(_ files: JSONValue) -> [(split: String, patterns: [String])]? {
        func patterns(_ value: JSONValue) -> [String]? {
            if let one = value.string { return [one] }
            guard let list = value.array else { return nil }
            let names = list.compactMap(\.string)
            return names.count == list.count ? names : nil
        }
        if let names = patterns(files) { return [("train", names)] }
        var splits: [(split: String, patterns: [String])] = []
        func add(_ split: String?, _ value: JSONValue?) -> Bool {
            guard let split, let value, let names = patterns(value),
                !splits.contains(where: { $0.split == split })
            else { return false }
            splits.append((split, names))
            return true
        }
        if let mapping = files.object {
            guard mapping.members.allSatisfy({ add($0.key, $0.value) }) else { return nil }
            return splits
        }
        for entry in files.array ?? [] {
            guard let object = entry.object, object.members.count == 2,
                add(object["split"]?.string, object["path"])
            else { return nil }
        }
        return splits.isEmpty ? nil : splits
    }

    /// Whether the README at `path` has the key `configs` in its YAML header. False if the file cannot be read.
    static func hasConfigs(readme path: String) -> Bool {
        guard let file = try? MappedFile(path: path) else { return false }
        let lines = file.withBytes { String(decoding: $0.prefix(1 << 20), as: UTF8.self) }
            .split(omittingEmptySubsequences: false) { $0.isNewline }
        func isFence(_ line: Substring) -> Bool { line == "---" || line.hasPrefix("--- ") }
        guard let first = lines.first, isFence(first.drop { $0 == "\u{FEFF}" }) else {
            return false
        }
        return lines.dropFirst().prefix { !isFence($0) }.contains { line in
            let key = line.prefix { $0 != ":" }.filter { !"\"' ".contains($0) }
            return line.first != " " && line.first != "#" && line.contains(":") && key == "configs"
        }
    }
}

/// The reason why a dataset's training files cannot be read.
struct NoTrainSplit: Error {
    let reason: String
}
