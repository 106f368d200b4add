// The environment variables that hold paths of libraries.

import CUDA
import Glibc
import Planning

/// Paths of CUDA libraries in environment variables.
enum LibraryPaths {
    /// Expands a leading `~` in the variables of `CUDALibraries.pathVariables`, for this process and its children.
    /// Throws `UsageError` if the home folder is unknown.
    static func expandHome() throws {
        for name in CUDALibraries.pathVariables {
            guard let value = getenv(name).map({ String(cString: $0) }) else { continue }
            let path = try UsageError.expandingHome(value, of: name)
            if path != value { setenv(name, path, 1) }
        }
    }
}
