// The error for an invalid flag.

import Files

/// A flag whose value is missing or invalid.
public struct UsageError: Error, Equatable, CustomStringConvertible {
    /// The flag, such as `--layers`.
    public let flag: String
    /// The problem and the next step.
    public let message: String

    /// Creates the error for `flag`.
    public init(_ flag: String, _ message: String) {
        self.flag = flag
        self.message = message
    }

    /// Returns `path` with `~` at its start expanded. Throws `UsageError` for `flag` if the home folder is unknown.
    public static func expandingHome(
        _ path: String, of flag: String
    ) throws(UsageError) -> String {
        do {
            return try Files.expandingHome(path)
        } catch {
            throw UsageError(flag, "\(error)")
        }
    }

    /// The flag and the message, such as "--layers: …".
    public var description: String { "\(flag): \(message)" }
}
