// Chooses the OpenBLAS kernel set that suits the processor. OpenBLAS itself chooses by processor family and model,
// and treats an unknown processor as an older one. Example: on a Zen 5, which has AVX-512, OpenBLAS 0.3.21 runs AVX2
// kernels at half the speed.

import CBFloat16
import COpenBLAS

/// The choice of the OpenBLAS kernel set, by the instructions that the processor supports.
package enum OpenBLASKernels {
    /// The environment variable that selects a kernel set. OpenBLAS reads it when the library is loaded
    /// (driver/others/dynamic.c in OpenBLAS).
    package static let variable = "OPENBLAS_CORETYPE"

    private static let forAVX512 = ["SkylakeX", "Cooperlake", "SapphireRapids"]
    private static let forAVX2 = ["Haswell", "Zen"]

    /// Returns the kernel set to request instead of `own`, the set that OpenBLAS has chosen. Nil if `own` is as good.
    static func better(than own: String, hasAVX512: Bool, hasAVX2: Bool) -> String? {
        func known(_ names: [String]) -> Bool {
            names.contains { $0.lowercased() == own.lowercased() }
        }
        if hasAVX512 { return known(forAVX512) ? nil : forAVX512[0] }
        if hasAVX2 { return known(forAVX2) ? nil : forAVX2[0] }
        return nil
    }

    /// The kernel set that OpenBLAS uses in this process.
    static var own: String { String(cString: openblas_get_corename()) }

    /// Returns the value of `variable` for the environment of a worker. Nil if the variable should stay as it is:
    /// OpenBLAS' own choice is as good, the user has set the variable, or the library has only one kernel set.
    package static func preferred(_ environment: [String: String]) -> String? {
        // Without DYNAMIC_ARCH the library contains one kernel set only.
        guard (environment[variable] ?? "").isEmpty,
            String(cString: openblas_get_config()).contains("DYNAMIC_ARCH")
        else { return nil }
        return better(
            than: own, hasAVX512: processor_has_avx512(), hasAVX2: processor_has_avx2())
    }
}
