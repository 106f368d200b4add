// The path of the stand-in for NVIDIA's libraries (Tests/FakeCUDA), and the environment that loads it.

import Foundation

/// The stand-in for NVIDIA's libraries: its path, and the environment that makes the program load it.
package enum FakeCUDA {
    /// The path of the stand-in, which is in the folder of the built program. This one library replaces the driver,
    /// the runtime and cuBLAS.
    package static let path =
        URL(fileURLWithPath: Tool.path).deletingLastPathComponent().path + "/libFakeCUDA.so"

    /// The environment variables that make the program load the stand-in for each of the three libraries.
    package static let libraries = [
        "SAE_EXTRACT_CUDA_DRIVER_LIB": path, "SAE_EXTRACT_CUDART_LIB": path,
        "SAE_EXTRACT_CUBLAS_LIB": path,
    ]

    /// Returns `libraries` with `changes` applied. If both have a variable, the value in `changes` is taken.
    package static func environment(_ changes: [String: String] = [:]) -> [String: String?] {
        libraries.merging(changes) { $1 }.mapValues { $0 }
    }
}
