// The error for a `save_dir` with results of other settings.

import Files

/// The error for a run whose settings differ from those of results or of another run in the same `save_dir`.
package struct ConfigurationConflict: ErrorWithLines, Equatable, CustomStringConvertible {
    /// The path of `save_dir`.
    package let saveDirectory: String
    /// The differences, one line each.
    package let differences: [String]
    /// True if the conflict is with a run that began after this run. False if the conflict is with existing results.
    package var isAtWork = false

    /// The problem, one line for each difference, and the next step.
    package var lines: [String] {
        [
            isAtWork
                ? "a run of another configuration has begun in \(saveDirectory) since this run began:"
                : "\(saveDirectory) holds results of another configuration:"
        ] + differences.map { "  \($0)" } + [
            isAtWork
                ? "Give another --save_dir. Or wait until the other run ends, or stop it, and run this command again."
                : "Give another --save_dir, or the settings of the existing results, or --overwrite to remove these results and start again."
        ]
    }

    /// `lines` as one text.
    package var description: String { lines.joined(separator: "\n") }
}
