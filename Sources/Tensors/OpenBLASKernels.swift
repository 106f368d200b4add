// Which of OpenBLAS' kernels to run. Versions that do not know a processor fall back to AVX2 kernels, which
// reach half the speed of its AVX-512 units; told the right name, they use them.

import COpenBLAS
import Foundation

/// The choice of OpenBLAS kernels. The library reads it from its environment when it is loaded, so it must
/// be there before the process starts.
public enum OpenBLASKernels {
    /// The environment variable that OpenBLAS reads.
    public static let variable = "OPENBLAS_CORETYPE"

    /// The name of the kernels in use, "Haswell".
    public static var current: String { String(cString: openblas_get_corename()) }

    /// The kernels to run instead of the `current` ones; nil where these are right or where the user has
    /// chosen in `environment`.
    public static func better(environment: [String: String]) -> String? {
        guard environment[variable] == nil else { return nil }
        return better(than: current, processorInformation: processorInformation())
    }

    /// The text of `/proc/cpuinfo`, whose size the system gives as 0.
    private static func processorInformation() -> String {
        guard let file = FileHandle(forReadingAtPath: "/proc/cpuinfo"),
            let data = try? file.readToEnd()
        else { return "" }
        return String(decoding: data, as: UTF8.self)
    }

    /// The same for kernels called `current` and the text of `/proc/cpuinfo`.
    static func better(than current: String, processorInformation: String) -> String? {
        // Kernels that OpenBLAS falls back to on processors newer than itself.
        guard ["Haswell", "Zen"].contains(current) else { return nil }
        let line = processorInformation.split(separator: "\n").first { $0.hasPrefix("flags") }
        let flags = Set((line ?? "").split(whereSeparator: \.isWhitespace))
        // What the SkylakeX kernels are compiled for.
        let needed: Set<Substring> = ["avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"]
        return flags.isSuperset(of: needed) ? "SkylakeX" : nil
    }
}
