// Commands for the parameter `launcher` of `Tool.run`, such as `launcher: .limit("-f 100")`. A launcher is put before the program.

import Foundation

extension [String] {
    /// Runs `script` in bash. In the script, `"$@"` is the program with its arguments.
    public static func shell(_ script: String) -> [String] { ["/bin/bash", "-c", script, "bash"] }

    /// Runs the program under a limit. `options` are those of `ulimit`, such as `-f 100`.
    public static func limit(_ options: String) -> [String] {
        shell("ulimit \(options); exec \"$@\"")
    }

    /// Runs `script` as `shell` does, in a separate mount namespace: only the script and the program see what the script mounts.
    public static func mountNamespace(_ script: String) -> [String] {
        ["/usr/bin/unshare", "--map-root-user", "--mount"] + shell(script)
    }

    /// Takes away root's right to pass over file permissions. Empty if the tests do not run as root. (Another user would also do,
    /// but could not enter the folders above the program if only root may.)
    public static var withoutPrivilege: [String] {
        getuid() == 0 ? ["/usr/bin/setpriv", "--bounding-set=-dac_override,-dac_read_search"] : []
    }
}
