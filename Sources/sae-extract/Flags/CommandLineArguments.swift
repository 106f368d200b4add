// Handles what ArgumentParser does not: flags in kebab-case (`--n-docs`), repeated flags, and values from environment
// variables.

import Planning

/// Rewrites a command line into the form that ArgumentParser parses.
enum CommandLineArguments {
    /// How the value of a flag is split into several values.
    enum Splitting {
        /// The value is not split.
        case none
        /// The value is split at commas and white space. Used for sites and SAE ids.
        case commas
        /// Used for layers. The value is split at commas and white space, and `5-8` becomes 5, 6, 7 and 8.
        case layers
        /// Used for authors' names. A value from the environment is split at newlines. A value from the command line
        /// is not split.
        case newlines
        /// A flag without a value. Its environment variable is 1, true, yes or on, or else 0, false, no or off.
        case `switch`
    }

    /// Each flag of a run, in snake_case without the leading dashes, with the way in which its value is split.
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

    /// Throws `UsageError` if the first word is neither a flag nor in `subcommands`. The error suggests a similar
    /// subcommand.
    ///
    /// Also throws if a subcommand in `otherCommands` gets a flag of a run. ArgumentParser would accept this flag
    /// without any effect.
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
            near.map { "is not a subcommand; did you mean '\($0)'?" }
                ?? "is not a subcommand (\(subcommands.joined(separator: ", "))); to start a run, give flags that begin with --, e.g. sae-extract --layers 5 10 15"
        )
    }

    /// Returns the Levenshtein distance of `a` and `b`: the smallest number of letters to insert, remove or replace
    /// to turn `b` into `a`.
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

    /// A flag on the command line, and the words between this flag and the next one.
    private struct Occurrence {
        var name: String
        var values: [String]
    }

    /// Returns `arguments` in the form that ArgumentParser parses:
    /// - Words before the first flag stay. ArgumentParser reads them as a subcommand or refuses them.
    /// - The flags of a run are in snake_case.
    /// - If a flag is given several times, only the last one stays.
    /// - Lists are split.
    /// - Flags that are not given are taken from `environment`.
    ///
    /// Throws `UsageError` for invalid layers, and for an invalid environment variable of a flag without a value.
    static func normalized(
        _ arguments: [String], environment: [String: String]
    ) throws(UsageError) -> [String] {
        // These subcommands read no environment variables, and their flags have only one spelling.
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
                // If the variable holds only separators, it counts as not set.
                if !values.isEmpty { last.append(Occurrence(name: name, values: values)) }
            }
        }
        return stray + last.flatMap(rewritten)
    }

    private static func isOn(_ value: String, _ variable: String) throws(UsageError) -> Bool {
        let word = value.lowercased()
        if ["1", "true", "yes", "on"].contains(word) { return true }
        guard ["0", "false", "no", "off"].contains(word) else {
            throw UsageError(
                variable, "is '\(value)'; give 1, true or yes for on, 0, false or no for off")
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

    /// Returns the flag and its values as words: `--layers 0 1`. If a value begins with a dash, returns `--prefix=-x`
    /// instead, because ArgumentParser would parse `-x` alone as a flag.
    private static func rewritten(_ occurrence: Occurrence) -> [String] {
        let flag = "--" + occurrence.name
        guard occurrence.values.contains(where: { $0.hasPrefix("-") }) else {
            return [flag] + occurrence.values
        }
        return occurrence.values.map { "\(flag)=\($0)" }
    }
}
