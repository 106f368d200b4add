// The error for a folder that holds results of other settings.

import Files

/// `save_dir` holds results, or a run, whose settings differ from those of this run.
public struct ConfigurationConflict: ErrorWithLines, Equatable, CustomStringConvertible {
    /// The folder.
    public let saveDirectory: String
    /// The differences, one line each.
    public let differences: [String]
    /// Whether the conflict is with a run that began after this one, and not with results.
    public var isAtWork = false

    /// The problem, one line per difference, and what to do.
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

    /// `lines` as one text.
    public var description: String { lines.joined(separator: "\n") }
}
