// The environment variables that name libraries.

import CUDA
import Glibc
import Planning

/// Paths of libraries in the environment.
enum LibraryPaths {
    /// Expands `~` in these variables, for this process and its children. Throws `UsageError`.
    static func expandHome() throws {
        for name in CUDALibraries.pathVariables {
            guard let value = getenv(name).map({ String(cString: $0) }) else { continue }
            let path = try UsageError.expandingHome(value, of: name)
            if path != value { setenv(name, path, 1) }
        }
    }
}
