// `sae-extract --version`.

import CPUBackend
import Glibc
import RunFiles
import Tensors

/// Prints the version with details. ArgumentParser's own `--version` prints only the number.
enum VersionCommand {
    /// Prints the version, the commit, OpenBLAS with its kernel set, and the CUDA libraries and devices. Exits with
    /// 0.
    static func run(_ environment: [String: String]) async -> Never {
        let commit = sourceCommit.isEmpty ? "" : " (\(sourceCommit))"
        let devices = await DeviceDiscovery(environment: environment).summary()
        let kernels = OpenBLASKernels.preferred(environment).map { "; workers take \($0)" } ?? ""
        try? printLines([
            "sae-extract \(RunFiles.version)\(commit)", "\(OpenBLASBackend.library)\(kernels)",
            devices,
        ])
        _exit(0)
    }
}
