// The error for a folder whose results are of other settings.

import Files

/// `save_dir` holds results that do not go with this run's.
public struct ConfigurationConflict: ErrorWithLines, Equatable, CustomStringConvertible {
    /// The folder.
    public let saveDirectory: String
    /// Each difference, by name.
    public let differences: [String]
    /// Whether it is a run that has begun there, rather than results.
    public var isAtWork = false

    /// All differences, a line each, and what to do.
    public var lines: [String] {
        [
            isAtWork
                ? "a run of another configuration has begun in \(saveDirectory) since this one did:"
                : "\(saveDirectory) holds results of another configuration:"
        ] + differences.map { "  \($0)" } + [
            isAtWork
                ? "Give another --save_dir, or let that run end or stop it, and run this command again."
                : "Give another --save_dir, or the settings of the results that are there, or --overwrite to remove them and start anew."
        ]
    }

    /// The same in one text.
    public var description: String { lines.joined(separator: "\n") }
}
