// The values of `--device`.

/// The kind of device that a run computes on.
package enum DeviceChoice: String, CaseIterable, Codable, Sendable {
    /// CUDA if an NVIDIA driver exists, otherwise the CPU.
    case auto
    /// The CPU.
    case cpu
    /// NVIDIA GPUs.
    case cuda
}
