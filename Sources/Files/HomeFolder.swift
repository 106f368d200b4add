// "~" at the front of a path, which shells expand in some places only: not in quotes, not behind "=", not in the environment.

import Glibc

/// A path that begins with a home folder that nobody knows.
public struct UnknownHomeError: Error, Equatable, CustomStringConvertible {
    /// The path as given.
    public let path: String
    /// The user whose home it is; empty for the one who runs this.
    public let user: String

    /// What is not known, and what to do.
    public var description: String {
        user.isEmpty
            ? "'\(path)' begins with your home folder, which is not known: HOME is not set, and the system has none for user \(getuid()); set HOME, or give the whole path"
            : "'\(path)' begins with the home folder of \(user), and there is no such user; give the whole path, or ./\(path) for a name that begins with ~"
    }
}

/// `path` with a `~` or `~user` at its front replaced by that home folder, as Python's `expanduser` does: `HOME`, else what
/// the system has for the user. A name that begins with `~` and is there stays. Throws `UnknownHomeError`.
public func expandingHome(_ path: String) throws(UnknownHomeError) -> String {
    guard path.hasPrefix("~") else { return path }
    let user = String(path.dropFirst().prefix { $0 != "/" })
    guard let home = user.isEmpty ? ownHome() : home(of: user) else {
        if !user.isEmpty, fileExists(path) { return path }
        throw UnknownHomeError(path: path, user: user)
    }
    let rest = path.dropFirst(1 + user.count)
    // A home "/" would make "//x".
    return rest.isEmpty ? home : (home.hasSuffix("/") ? String(home.dropLast()) : home) + rest
}

private func ownHome() -> String? {
    if let home = getenv("HOME").map({ String(cString: $0) }), !home.isEmpty { return home }
    return entry { getpwuid_r(getuid(), $0, $1, $2, $3) }
}

private func home(of user: String) -> String? {
    entry { getpwnam_r(user, $0, $1, $2, $3) }
}

/// The home folder that `look` finds in the system's list of users.
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
