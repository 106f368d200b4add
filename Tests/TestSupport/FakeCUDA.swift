// The stand-in for NVIDIA's libraries that Tests/FakeCUDA builds.

import Foundation

/// Where the stand-in is and how the program is pointed to it.
public enum FakeCUDA {
    /// The library, beside the program that was built with these tests. It stands in for all three.
    public static let path =
        URL(fileURLWithPath: Tool.path).deletingLastPathComponent().path + "/libFakeCUDA.so"

    /// Environment variables that name it.
    public static let libraries = [
        "SAE_EXTRACT_CUDA_DRIVER_LIB": path, "SAE_EXTRACT_CUDART_LIB": path,
        "SAE_EXTRACT_CUBLAS_LIB": path,
    ]

    /// The same, with `changes`.
    public static func environment(_ changes: [String: String] = [:]) -> [String: String?] {
        libraries.merging(changes) { $1 }.mapValues { $0 }
    }
}
