// The error of devices that cannot be used.

/// Devices exist or were asked for, and cannot be used. `description` tells why and what to do.
struct DeviceError: Error, CustomStringConvertible {
    let description: String
}
