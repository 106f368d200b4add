// Tests which OpenBLAS kernel set the program requests for workers.

import Testing

@testable import CPUBackend

struct OpenBLASKernelsTests {
    /// Arguments: OpenBLAS' own choice, the processor's instructions, and the set that the program requests instead.
    @Test(
        arguments: [
            ("Zen", "avx512", "SkylakeX"), ("Haswell", "avx512", "SkylakeX"),
            ("Prescott", "avx512", "SkylakeX"), ("SkylakeX", "avx512", nil),
            ("Cooperlake", "avx512", nil), ("SAPPHIRERAPIDS", "avx512", nil),
            ("Zen", "avx2", nil), ("Haswell", "avx2", nil), ("HASWELL", "avx2", nil),
            ("Prescott", "avx2", "Haswell"), ("Nehalem", "avx2", "Haswell"),
            ("SandyBridge", "avx", nil), ("Prescott", "", nil),
        ] as [(String, String, String?)])
    func theProcessorDecides(own: String, instructions: String, wanted: String?) {
        let has512 = instructions == "avx512"
        #expect(
            OpenBLASKernels.better(
                than: own, hasAVX512: has512, hasAVX2: has512 || instructions == "avx2") == wanted)
    }

    @Test func whatTheUserHasSetStays() {
        #expect(OpenBLASKernels.preferred([OpenBLASKernels.variable: "Nehalem"]) == nil)
        let preferred = OpenBLASKernels.preferred([:])
        #expect(OpenBLASKernels.preferred([OpenBLASKernels.variable: ""]) == preferred)
    }
}
