// What ArgumentParser does not do by itself: kebab-case spellings, a flag given twice replacing, values from
// the environment.

/// Rewrites a command line into the one form that the parser knows.
enum CommandLineArguments {
    /// How a flag's value is split when it comes from the environment.
    enum Splitting {
        /// One value.
        case none
        /// Numbers, sites, SAE ids: at commas.
        case commas
        /// Authors' names, which may contain anything else: at newlines.
        case newlines
        /// A flag without a value: on with 1, true or yes.
        case `switch`
    }

    /// Every flag, in snake_case without dashes.
    static let flags: [String: Splitting] = [
        "layers": .commas, "layer_types": .commas, "model": .none, "model_path": .none,
        "revision": .none, "sae_revision": .none, "data_repo": .none, "data_revision": .none,
        "max_seq_len": .none, "prefix": .none, "sae_dir": .none, "sae_features": .none,
        "target_l0": .none, "sae_id": .commas, "feature_threshold": .none, "data_path": .none,
        "n_docs": .none, "n_docs_per_author": .none, "min_length_doc": .none,
        "exclude_authors": .newlines, "include_authors": .newlines, "author_field": .none,
        "text_field": .none, "save_dir": .none, "storage_format": .none,
        "activation_values": .none, "overwrite": .switch, "dry_run": .switch, "batch_size": .none,
        "workers": .none, "threads": .none, "rank": .none, "world_size": .none,
        "progress": .none, "log_level": .none, "device": .none, "dtype": .none,
    ]

    /// Subcommands without the flags of a run.
    private static let otherCommands: Set = ["inspect", "report", "verify", "devices", "help"]

    /// One flag with what follows it.
    private struct Occurrence {
        var name: String
        var values: [String]
    }

    /// `arguments` with flags in snake_case, only the last of equal flags, and absent ones taken from
    /// `environment`. What stands before the first flag is left to the parser, which refuses it.
    static func normalized(
        _ arguments: [String], environment: [String: String]
    ) -> [String] {
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
        // The others have no flags of a run.
        let isOther = arguments.first.map(otherCommands.contains) == true
        for (name, splitting) in isOther ? [:] : flags
        where !last.contains(where: { $0.name == name }) {
            let variable = "SAE_EXTRACT_" + name.uppercased()
            guard let value = environment[variable], !value.isEmpty else { continue }
            if splitting == .switch {
                guard ["1", "true", "yes"].contains(value.lowercased()) else { continue }
                last.append(Occurrence(name: name, values: []))
            } else {
                last.append(Occurrence(name: name, values: split(value, splitting)))
            }
        }
        return stray + last.flatMap(rewritten)
    }

    private static func split(_ value: String, _ splitting: Splitting) -> [String] {
        switch splitting {
        case .none, .switch: [value]
        case .commas:
            value.split { $0 == "," || $0.isWhitespace }.map(String.init)
        case .newlines: value.split(separator: "\n").map(String.init)
        }
    }

    /// The flag as the parser reads it. Values that begin with a dash are joined to their flag, so that they
    /// are not taken for one.
    private static func rewritten(_ occurrence: Occurrence) -> [String] {
        let flag = "--" + occurrence.name
        guard occurrence.values.contains(where: { $0.hasPrefix("-") }) else {
            return [flag] + occurrence.values
        }
        return occurrence.values.map { "\(flag)=\($0)" }
    }
}
