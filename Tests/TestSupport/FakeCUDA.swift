// The stand-in for NVIDIA's libraries, which the target FakeCUDA builds.

import Foundation

/// The path of the stand-in, and the environment that makes the program load it.
public enum FakeCUDA {
    /// The library's path, in the folder of the program that was built with these tests. One file replaces the driver, the
    /// runtime and cuBLAS.
    public static let path =
        URL(fileURLWithPath: Tool.path).deletingLastPathComponent().path + "/libFakeCUDA.so"

    /// The environment variables that name the stand-in as each of the three libraries.
    public static let libraries = [
        "SAE_EXTRACT_CUDA_DRIVER_LIB": path, "SAE_EXTRACT_CUDART_LIB": path,
        "SAE_EXTRACT_CUBLAS_LIB": path,
    ]

    /// Returns `libraries` with `changes` applied; a value in `changes` wins.
    public static func environment(_ changes: [String: String] = [:]) -> [String: String?] {
        libraries.merging(changes) { $1 }.mapValues { $0 }
    }
}
