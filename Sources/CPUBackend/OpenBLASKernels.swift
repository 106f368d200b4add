// Which OpenBLAS kernel set suits the processor. OpenBLAS chooses by processor family and model. It treats a processor that
// is newer than its version as an older one: 0.3.21 runs AVX2 kernels on a Zen 5 with AVX-512, at half the speed.

import CBFloat16
import COpenBLAS

/// The choice of the OpenBLAS kernel set, by the instructions that the processor supports.
public enum OpenBLASKernels {
    /// The environment variable that selects a kernel set. OpenBLAS reads it when it is loaded (driver/others/dynamic.c).
    public static let variable = "OPENBLAS_CORETYPE"

    private static let forAVX512 = ["SkylakeX", "Cooperlake", "SapphireRapids"]
    private static let forAVX2 = ["Haswell", "Zen"]

    /// Returns the kernel set to request instead of `own`, OpenBLAS' choice; nil if `own` is as good.
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

    /// Returns the value of `variable` for processes to be started. Nil if OpenBLAS' choice is as good, if `environment` already
    /// sets `variable`, or if OpenBLAS was built for one kernel set only.
    public static func preferred(_ environment: [String: String]) -> String? {
        // Without DYNAMIC_ARCH the library contains one kernel set only.
        guard (environment[variable] ?? "").isEmpty,
            String(cString: openblas_get_config()).contains("DYNAMIC_ARCH")
        else { return nil }
        return better(
            than: own, hasAVX512: processor_has_avx512(), hasAVX2: processor_has_avx2())
    }
}
