// The arguments of this process. Swift's `CommandLine.arguments` is empty if /proc is not mounted.

import CStartup
import Planning

/// The arguments that this process was started with.
enum ProcessArguments {
    /// All arguments. The first is the program's name.
    static let all = (0..<startup_argument_count()).map { String(cString: startup_argument($0)) }

    /// The arguments after the program's name.
    static var own: [String] { Array(all.dropFirst()) }

    /// The index in `all` of the first argument that is not valid UTF-8. Nil if all arguments are valid.
    static var firstInvalid: Int? {
        all.indices.first { String(validatingCString: startup_argument(Int32($0))) == nil }
    }

    /// Throws `UsageError` if an argument is not valid UTF-8. Swift would replace the invalid bytes, so a path would
    /// name another file.
    static func check() throws {
        guard let index = firstInvalid else { return }
        let flag = all[..<index].last { $0.hasPrefix("--") }
        throw UsageError(
            flag ?? "arguments",
            "'\(all[index])' is not valid UTF-8; rename the file or folder, or give another name"
        )
    }
}
