// This process' arguments. Swift's own are empty where there is no /proc.

import CStartup

/// What this process was started with.
enum ProcessArguments {
    /// The arguments, the program's name first.
    static let all = (0..<startup_argument_count()).map { String(cString: startup_argument($0)) }

    /// Those behind the name.
    static var own: [String] { Array(all.dropFirst()) }

    /// The first that Swift would read as something else, since it is not UTF-8, by its place in `all`.
    static var firstInvalid: Int? {
        all.indices.first { String(validatingCString: startup_argument(Int32($0))) == nil }
    }
}
