// `sae-extract devices`: prints the devices that a run would use.

import ArgumentParser
import CUDA
import Files
import Planning

/// The command `sae-extract devices`.
struct DevicesCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "devices",
        abstract:
            "Prints the NVIDIA devices that a run would use, the CUDA libraries that were found, and what is missing.",
        discussion: """
            If CUDA_VISIBLE_DEVICES is set, only the devices in it are printed. The libraries are searched for by name \
            (LD_LIBRARY_PATH), in CUDA_HOME and \
            /usr/local/cuda, in the environments of conda and Python, and at the paths in SAE_EXTRACT_CUDA_DRIVER_LIB, \
            SAE_EXTRACT_CUDART_LIB and SAE_EXTRACT_CUBLAS_LIB.
            """)

    /// Prints libraries and devices. Throws `DeviceError` if a run could not use the devices.
    func execute(_ environment: [String: String]) async throws {
        let probe = await DeviceDiscovery(environment: environment).probe()
        var lines: [String] = []
        if !probe.libraries.isEmpty {
            lines.append("libraries")
            lines += textTable(
                probe.libraries.map {
                    [$0.name, $0.version ?? "", $0.path ?? "not found"]
                })
            lines.append("")
        }
        if !probe.devices.isEmpty {
            lines.append("devices")
            lines += textTable(
                [["CUDA_VISIBLE_DEVICES", "name", "memory", "compute capability", "UUID"]]
                    + probe.devices.map {
                        [
                            $0.token, $0.name, "\($0.memory >> 20) MiB", $0.capabilityName, $0.uuid,
                        ]
                    })
            lines.append("")
            lines.append(
                "a run without --workers has \(probe.devices.count) \(probe.devices.count == 1 ? "worker" : "workers"), one per device"
            )
        }
        try printLines(lines)
        if let problem = probe.problem { throw DeviceError(description: problem) }
    }
}
