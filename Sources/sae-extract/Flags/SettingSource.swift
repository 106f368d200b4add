// Remembers which flags got their values from environment variables, so that messages can name these variables.

import Files
import Planning
import Synchronization

/// The environment variables from which flags got their values.
enum SettingSource {
    /// The variable of each flag: "--n_docs" has "SAE_EXTRACT_N_DOCS".
    private static let variables = Mutex<[String: String]>([:])

    /// Stores the flags that are not in `arguments` but have a value in `environment`. Throws `UsageError` if such a
    /// value is not valid UTF-8.
    static func look(_ arguments: [String], _ environment: [String: String]) throws {
        // These subcommands take no flags of a run.
        if arguments.first.map(CommandLineArguments.otherCommands.contains) == true { return }
        let given = Set(
            arguments.filter { $0.hasPrefix("--") }.map { argument in
                String(argument.dropFirst(2).prefix { $0 != "=" }).replacing("-", with: "_")
            })
        let malformed = variablesThatAreNotUTF8()
        for name in CommandLineArguments.flags.keys where !given.contains(name) {
            let variable = "SAE_EXTRACT_" + name.uppercased()
            guard environment[variable]?.isEmpty == false else { continue }
            guard !malformed.contains(variable) else {
                throw UsageError(
                    variable, "is not valid UTF-8; rename the file or folder, or give another name")
            }
            variables.withLock { $0["--" + name] = variable }
        }
    }

    /// Returns `message` with the environment variable after each flag whose value comes from a variable. For
    /// example, "--n_docs:" becomes "--n_docs (SAE_EXTRACT_N_DOCS):".
    static func named(in message: String) -> String {
        variables.withLock { $0 }.reduce(message) { text, setting in
            // The variable is added only before punctuation or at the end of the text. Before a letter, the text
            // names a longer flag, such as `--model_path` for `--model`. Before a value, the flag is part of a
            // command for the user to copy.
            let flag = text.ranges(of: setting.key).first { range in
                text[range.upperBound...].first.map { ":;,.)".contains($0) } ?? true
            }
            guard let flag else { return text }
            return text[..<flag.upperBound] + " (\(setting.value))" + text[flag.upperBound...]
        }
    }

    /// Returns a line that names the variable from which a flag in `message` got its value. `message` is an error of
    /// ArgumentParser. Returns nil if the value does not come from a variable.
    static func note(on message: String) -> String? {
        let found = variables.withLock { $0 }.filter { flag, _ in
            message.contains("'\(flag) ") || message.contains("'\(flag)'")
        }
        guard let (flag, variable) = found.min(by: { $0.key < $1.key }) else { return nil }
        return "The value of \(flag) comes from \(variable) in the environment."
    }
}
