// Commands that start the program, for the parameter `launcher` of `Tool.run`: `launcher: .limit("-f 100")`.

import Foundation

extension [String] {
    /// Runs `script` in bash. In the script, `"$@"` is the program with its arguments.
    package static func shell(_ script: String) -> [String] { ["/bin/bash", "-c", script, "bash"] }

    /// Runs the program under a limit. `options` are those of `ulimit`, such as `-f 100`.
    package static func limit(_ options: String) -> [String] {
        shell("ulimit \(options); exec \"$@\"")
    }

    /// Runs `script` in bash, in a mount namespace of its own. Only the script and the program see what the script
    /// mounts. In the script, `"$@"` is the program with its arguments.
    package static func mountNamespace(_ script: String) -> [String] {
        ["/usr/bin/unshare", "--map-root-user", "--mount"] + shell(script)
    }

    /// Removes root's privilege to ignore file permissions. Empty if the tests do not run as root. Another user is no
    /// alternative, because that user may have no access to the program's folder.
    package static var withoutPrivilege: [String] {
        getuid() == 0 ? ["/usr/bin/setpriv", "--bounding-set=-dac_override,-dac_read_search"] : []
    }
}
