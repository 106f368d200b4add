// Expands "~" at the start of a path. A shell does not expand it in quotes, after "=" or in environment variables.

import Glibc

/// The error for a path that begins with a home folder that is not known.
public struct UnknownHomeError: Error, Equatable, CustomStringConvertible {
    /// The path as given.
    public let path: String
    /// The name of the user; empty for the user who runs this program.
    public let user: String

    /// What is not known, and the next step.
    public var description: String {
        user.isEmpty
            ? "'\(path)' begins with ~, your home folder, which is not known: HOME is not set, and the system has no home folder for user \(getuid()); set HOME, or give the whole path"
            : "'\(path)' begins with ~\(user), the home folder of \(user), but the system has no such user; give the whole path, or ./\(path) for a name that begins with ~"
    }
}

/// Returns `path` with `~` or `~user` at its start replaced by the home folder, as Python's `expanduser` does. `~`
/// stands for the value of `HOME`, or, if that is not set, for the home folder in the system's list of users. If
/// `~user` is unknown and a file called `path` exists, returns `path` unchanged. Throws `UnknownHomeError`.
public func expandingHome(_ path: String) throws(UnknownHomeError) -> String {
    guard path.hasPrefix("~") else { return path }
    let user = String(path.dropFirst().prefix { $0 != "/" })
    guard let home = user.isEmpty ? ownHome() : home(of: user) else {
        if !user.isEmpty, fileExists(path) { return path }
        throw UnknownHomeError(path: path, user: user)
    }
    let rest = path.dropFirst(1 + user.count)
    // If the home folder is "/", the plain result would be "//x".
    return rest.isEmpty ? home : (home.hasSuffix("/") ? String(home.dropLast()) : home) + rest
}

private func ownHome() -> String? {
    if let home = getenv("HOME").map({ String(cString: $0) }), !home.isEmpty { return home }
    return entry { getpwuid_r(getuid(), $0, $1, $2, $3) }
}

private func home(of user: String) -> String? {
    entry { getpwnam_r(user, $0, $1, $2, $3) }
}

/// Returns the home folder of the user that `look` finds in the system's list of users. Nil if `look` finds no user,
/// or a user without a home folder.
private func entry(
    _ look: (
        UnsafeMutablePointer<passwd>, UnsafeMutablePointer<CChar>, Int,
        UnsafeMutablePointer<UnsafeMutablePointer<passwd>?>
    ) -> Int32
) -> String? {
    var user = passwd()
    var found: UnsafeMutablePointer<passwd>?
    var buffer = [CChar](repeating: 0, count: 1 << 14)
    return buffer.withUnsafeMutableBufferPointer { buffer in
        guard look(&user, buffer.baseAddress!, buffer.count, &found) == 0, found != nil,
            let folder = user.pw_dir
        else { return nil }
        let home = String(cString: folder)
        return home.isEmpty ? nil : home
    }
}
