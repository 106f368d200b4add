// Which of OpenBLAS' kernels suit the processor. OpenBLAS goes by families and models of processors that its version knew,
// and takes others for older ones: 0.3.21 runs AVX2 kernels on a Zen 5 that has AVX-512, at half the speed.

import COpenBLAS

/// The choice of OpenBLAS' kernels, by what the processor can do.
public enum OpenBLASKernels {
    /// The variable that OpenBLAS goes by when it is loaded (driver/others/dynamic.c).
    public static let variable = "OPENBLAS_CORETYPE"

    private static let forAVX512 = ["SkylakeX", "Cooperlake", "SapphireRapids"]
    private static let forAVX2 = ["Haswell", "Zen"]

    /// The kernels to ask for instead of `own`, OpenBLAS' choice; nil where that is as good.
    static func better(than own: String, hasAVX512: Bool, hasAVX2: Bool) -> String? {
        func known(_ names: [String]) -> Bool {
            names.contains { $0.lowercased() == own.lowercased() }
        }
        if hasAVX512 { return known(forAVX512) ? nil : forAVX512[0] }
        if hasAVX2 { return known(forAVX2) ? nil : forAVX2[0] }
        return nil
    }

    /// What OpenBLAS has chosen in this process.
    static var own: String { String(cString: openblas_get_corename()) }

    /// The kernels that processes to be started should ask for, by a value of `variable`; nil where OpenBLAS' choice is
    /// as good, or where `environment` has one already.
    public static func preferred(_ environment: [String: String]) -> String? {
        // A library of one set of kernels has no choice.
        guard (environment[variable] ?? "").isEmpty,
            String(cString: openblas_get_config()).contains("DYNAMIC_ARCH")
        else { return nil }
        return better(
            than: own, hasAVX512: processor_has_avx512(), hasAVX2: processor_has_avx2())
    }
}
