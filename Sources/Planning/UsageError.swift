// The error for an invalid flag.

import Files

/// A flag whose value is missing or invalid.
package struct UsageError: Error, Equatable, CustomStringConvertible {
    /// The flag, such as `--layers`.
    package let flag: String
    /// The problem and the next step.
    package let message: String

    /// Creates the error for `flag`.
    package init(_ flag: String, _ message: String) {
        self.flag = flag
        self.message = message
    }

    /// Returns `path` with `~` at its start expanded. Throws `UsageError` for `flag` if the home folder is unknown.
    package static func expandingHome(
        _ path: String, of flag: String
    ) throws(UsageError) -> String {
        do {
            return try Files.expandingHome(path)
        } catch {
            throw UsageError(flag, "\(error)")
        }
    }

    /// The flag and the message, such as "--layers: …".
    package var description: String { "\(flag): \(message)" }
}
