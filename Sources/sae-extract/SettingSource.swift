// Where a flag's value comes from, for messages: a value that stands in the environment is not found on the command line.

import Files
import Planning
import Synchronization

/// The variables that flags' values were taken from.
enum SettingSource {
    /// By flag: "--n_docs" to "SAE_EXTRACT_N_DOCS".
    private static let variables = Mutex<[String: String]>([:])

    /// Remembers which of the flags that `arguments` do not have `environment` gives. Throws `UsageError` where such a value is not
    /// valid UTF-8: Swift would read it as another.
    static func look(_ arguments: [String], _ environment: [String: String]) throws {
        // The others have no flags of a run.
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

    /// `message` with the variable behind each flag that it names and whose value a variable gives: "--n_docs
    /// (SAE_EXTRACT_N_DOCS)".
    static func named(in message: String) -> String {
        variables.withLock { $0 }.reduce(message) { text, setting in
            // With a value behind it, it is part of a command to be copied; one flag's name may begin with another's.
            let flag = text.ranges(of: setting.key).first { range in
                text[range.upperBound...].first.map { ":;,.)".contains($0) } ?? true
            }
            guard let flag else { return text }
            return text[..<flag.upperBound] + " (\(setting.value))" + text[flag.upperBound...]
        }
    }

    /// Which variable gives the flag that the parser complains of in `message`, in a line; nil where none does.
    static func note(on message: String) -> String? {
        let found = variables.withLock { $0 }.filter { flag, _ in
            message.contains("'\(flag) ") || message.contains("'\(flag)'")
        }
        guard let (flag, variable) = found.min(by: { $0.key < $1.key }) else { return nil }
        return "The value of \(flag) comes from \(variable) in the environment."
    }
}
