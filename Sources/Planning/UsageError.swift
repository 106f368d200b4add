// The error for a flag's value.

import Files

/// A flag's value that cannot be, and what could.
public struct UsageError: Error, Equatable, CustomStringConvertible {
    /// The flag, `--layers`.
    public let flag: String
    /// What is wrong and what to give instead.
    public let message: String

    /// A complaint about `flag`.
    public init(_ flag: String, _ message: String) {
        self.flag = flag
        self.message = message
    }

    /// `path` with `~` at its front expanded; `flag` says where it comes from. Throws `UsageError` where that home is not
    /// known.
    public static func expandingHome(
        _ path: String, of flag: String
    ) throws(UsageError) -> String {
        do {
            return try Files.expandingHome(path)
        } catch {
            throw UsageError(flag, "\(error)")
        }
    }

    /// "--layers: …".
    public var description: String { "\(flag): \(message)" }
}
