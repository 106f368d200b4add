// The error for CUDA devices that cannot be used.

/// CUDA devices exist or were requested, but cannot be used. `description` gives the reason and the next step.
struct DeviceError: Error, CustomStringConvertible {
    let description: String
}
