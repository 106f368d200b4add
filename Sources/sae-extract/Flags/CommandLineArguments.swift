// What ArgumentParser does not do: kebab-case spellings, repeated flags of which the last one counts, and values from the
// environment.

import Planning

/// Rewrites a command line into the form that ArgumentParser knows.
enum CommandLineArguments {
    /// How a flag's value is split.
    enum Splitting {
        /// Not at all: one value.
        case none
        /// At commas and white space: sites, SAE ids.
        case commas
        /// At commas and white space, with ranges written out: layers.
        case layers
        /// At newlines, and only in the environment: authors' names, which may contain all other characters.
        case newlines
        /// A flag without a value. In the environment the flag is on with 1, true, yes or on, and off with 0, false, no or off.
        case `switch`
    }

    /// Every flag of a run, in snake_case without dashes.
    static let flags: [String: Splitting] = [
        "layers": .layers, "layer_types": .commas, "model": .none, "model_path": .none,
        "revision": .none, "sae_revision": .none, "data_repo": .none, "data_revision": .none,
        "max_seq_len": .none, "prefix": .none, "sae_dir": .none, "sae_features": .none,
        "target_l0": .none, "sae_id": .commas, "feature_threshold": .none, "data_path": .none,
        "n_docs": .none, "n_docs_per_author": .none, "min_length_doc": .none,
        "exclude_authors": .newlines, "include_authors": .newlines, "author_field": .none,
        "text_field": .none, "save_dir": .none, "storage_format": .none,
        "activation_values": .none, "overwrite": .switch, "ignore_free_space": .switch,
        "dry_run": .switch, "batch_size": .none,
        "workers": .none, "threads": .none, "rank": .none, "world_size": .none,
        "progress": .none, "log_level": .none, "device": .none, "dtype": .none,
    ]

    /// The subcommands that do not take the flags of a run.
    static let otherCommands: Set = ["inspect", "report", "verify", "devices", "help"]

    /// Throws `UsageError` if the first word is not one of `subcommands` (the error names a similar subcommand), or if a
    /// subcommand that takes no flags of a run gets such a flag. ArgumentParser would accept the flag, and nothing would read it.
    static func checkSubcommand(_ arguments: [String], among subcommands: [String]) throws {
        guard let word = arguments.first, !word.hasPrefix("-") else { return }
        if otherCommands.contains(word) {
            for argument in arguments where argument.hasPrefix("--") {
                let name = String(argument.dropFirst(2).prefix { $0 != "=" })
                    .replacing("-", with: "_")
                if flags[name] != nil {
                    throw UsageError(
                        "--\(name)",
                        "is a flag of a run, not of '\(word)'; see sae-extract help \(word)")
                }
            }
        }
        guard !subcommands.contains(word) else { return }
        let near = subcommands.min { distance($0, word) < distance($1, word) }
            .flatMap { distance($0, word) <= 2 ? $0 : nil }
        throw UsageError(
            word,
            near.map { "is no subcommand; did you mean '\($0)'?" }
                ?? "is no subcommand (\(subcommands.joined(separator: ", "))), and a run's flags begin with --, e.g. sae-extract --layers 5 10 15"
        )
    }

    /// Returns the number of letters to insert, remove or replace to turn `b` into `a` (Levenshtein 1965).
    private static func distance(_ a: String, _ b: String) -> Int {
        let (a, b) = (Array(a), Array(b))
        var row = Array(0...b.count)
        for i in a.indices {
            var corner = row[0]
            row[0] = i + 1
            for j in b.indices {
                (corner, row[j + 1]) = (
                    row[j + 1], min(corner + (a[i] == b[j] ? 0 : 1), row[j] + 1, row[j + 1] + 1)
                )
            }
        }
        return row[b.count]
    }

    /// A flag and the words after it.
    private struct Occurrence {
        var name: String
        var values: [String]
    }

    /// Returns `arguments` with flags in snake_case, only the last of equal flags, lists split, and absent flags taken from
    /// `environment`. Words before the first flag stay: a subcommand, or words that ArgumentParser refuses. Throws `UsageError`
    /// for invalid layers and for invalid environment values of switches.
    static func normalized(
        _ arguments: [String], environment: [String: String]
    ) throws(UsageError) -> [String] {
        // These subcommands have no flags with two spellings.
        if arguments.first.map(otherCommands.contains) == true { return arguments }
        var stray: [String] = []
        var occurrences: [Occurrence] = []
        for argument in arguments {
            if argument == "-h" {
                occurrences.append(Occurrence(name: "help", values: []))
            } else if argument.hasPrefix("--"), argument.count > 2 {
                let parts = argument.dropFirst(2).split(
                    separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                let name = String(parts[0].replacing("-", with: "_"))
                let known = flags[name] != nil
                occurrences.append(
                    Occurrence(
                        name: known ? name : String(parts[0]),
                        values: parts.dropFirst().map(String.init)))
            } else if occurrences.isEmpty {
                stray.append(argument)
            } else {
                occurrences[occurrences.count - 1].values.append(argument)
            }
        }
        var last: [Occurrence] = []
        for occurrence in occurrences {
            last.removeAll { $0.name == occurrence.name }
            last.append(occurrence)
        }
        for i in last.indices {
            switch flags[last[i].name] {
            case .commas, .layers:
                let name = last[i].name
                last[i].values = try split(last[i].values, flags[name]!, source: "--\(name)")
            default: break
            }
        }
        for (name, splitting) in flags
        where !last.contains(where: { $0.name == name }) {
            let variable = "SAE_EXTRACT_" + name.uppercased()
            guard let value = environment[variable], !value.isEmpty else { continue }
            if splitting == .switch {
                guard try isOn(value, variable) else { continue }
                last.append(Occurrence(name: name, values: []))
            } else {
                let values = try split([value], splitting, source: variable)
                // A list without an element counts as absent.
                if !values.isEmpty { last.append(Occurrence(name: name, values: values)) }
            }
        }
        return stray + last.flatMap(rewritten)
    }

    private static func isOn(_ value: String, _ variable: String) throws(UsageError) -> Bool {
        let word = value.lowercased()
        if ["1", "true", "yes", "on"].contains(word) { return true }
        guard ["0", "false", "no", "off"].contains(word) else {
            throw UsageError(variable, "is '\(value)'; give 1, true or yes, or 0, false or no")
        }
        return false
    }

    private static func split(
        _ values: [String], _ splitting: Splitting, source: String
    ) throws(UsageError) -> [String] {
        switch splitting {
        case .none, .switch: values
        case .commas: values.flatMap { $0.split { $0 == "," || $0.isWhitespace }.map(String.init) }
        case .layers: try LayerList.numbers(values, source: source)
        case .newlines: values.flatMap { $0.split(separator: "\n").map(String.init) }
        }
    }

    /// Returns the flag and its values as words. If a value begins with a dash, each value is joined to the flag by "=", so that
    /// ArgumentParser does not take the value for a flag.
    private static func rewritten(_ occurrence: Occurrence) -> [String] {
        let flag = "--" + occurrence.name
        guard occurrence.values.contains(where: { $0.hasPrefix("-") }) else {
            return [flag] + occurrence.values
        }
        return occurrence.values.map { "\(flag)=\($0)" }
    }
}
