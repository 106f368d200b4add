// Finds the CUDA devices of the machine. The parent runs this code in a child process, for two reasons. A process
// that has initialised CUDA cannot start workers cleanly. And if the driver crashes or hangs, only the child process
// is lost.

import CCUDA
import FoundationEssentials

/// A device, as the driver describes it.
package struct DeviceDescription: Codable, Equatable, Sendable {
    /// The name of the device: "NVIDIA H100 80GB HBM3".
    package let name: String
    /// The UUID: "GPU-…" for a device, "MIG-…" for a MIG slice of a device.
    package let uuid: String
    /// Total memory of the device, in bytes.
    package let memory: Int
    /// Compute capability, major and minor.
    package let capability: [Int]
    /// The value of CUDA_VISIBLE_DEVICES for a process that uses only this device.
    package var token: String

    /// Stores the description of a device.
    package init(name: String, uuid: String, memory: Int, capability: [Int], token: String) {
        (self.name, self.uuid, self.memory) = (name, uuid, memory)
        (self.capability, self.token) = (capability, token)
    }

    /// The compute capability as text: "9.0".
    package var capabilityName: String { capability.map { "\($0)" }.joined(separator: ".") }
}

/// The libraries and devices found on the machine.
package struct DeviceProbe: Codable, Equatable, Sendable {
    /// The libraries that were looked for, in order. The search ends at the first library that is missing.
    package var libraries: [LibraryFinding] = []
    /// The devices that this process can see (CUDA_VISIBLE_DEVICES).
    package var devices: [DeviceDescription] = []
    /// The reason why no device can be used; nil if there was no error.
    package var problem: String?

    /// Creates an empty result: no libraries and no devices.
    package init() {}

    /// Whether an NVIDIA driver was found.
    package var hasDriver: Bool {
        libraries.first { $0.name == "libcuda" }?.path != nil
    }

    /// Searches for libraries and devices. Initialises CUDA in this process, so this process must not start workers.
    package init(environment: [String: String]) {
        do throws(CUDAError) {
            let libraries = try CUDALibraries(environment: environment, findings: &self.libraries)
            devices = try DeviceProbe.devices(libraries, environment)
        } catch {
            problem = "\(error)"
        }
    }

    private static func devices(
        _ libraries: CUDALibraries, _ environment: [String: String]
    ) throws(CUDAError) -> [DeviceDescription] {
        let driver = libraries.driver
        let visible = environment["CUDA_VISIBLE_DEVICES"]
        func none() -> CUDAError {
            .noDevice(
                reason: visible.map {
                    "CUDA_VISIBLE_DEVICES is '\($0)', which names no existing device; correct or unset this variable"
                }
                    ?? "the driver sees no device; check with nvidia-smi, and check whether the job or container was given a device"
            )
        }
        let status = driver.cuInit(0)
        if status == 100 { throw none() }
        try libraries.check(status, "cuInit")
        var count: Int32 = 0
        try libraries.check(driver.cuDeviceGetCount(&count), "cuDeviceGetCount")
        guard count > 0 else { throw none() }
        // This call fails if the runtime does not work with the driver.
        try libraries.check(libraries.runtime.cudaGetDeviceCount(&count), "cudaGetDeviceCount")
        let tokens = visible.map(DeviceProbe.tokens)
        var found: [DeviceDescription] = []
        for ordinal in 0..<Int(count) {
            let device = try libraries.device(ordinal)
            var uuid = [UInt8](repeating: 0, count: 16)
            try libraries.check(driver.cuDeviceGetUuid_v2(&uuid, device), "cuDeviceGetUuid_v2")
            var memory = 0
            try libraries.check(driver.cuDeviceTotalMem_v2(&memory, device), "cuDeviceTotalMem_v2")
            let token =
                tokens.map { ordinal < $0.count ? $0[ordinal] : "\(ordinal)" } ?? "\(ordinal)"
            let isSlice = token.hasPrefix("MIG-")
            found.append(
                DeviceDescription(
                    name: try libraries.name(of: device),
                    uuid: isSlice ? token : "GPU-" + DeviceProbe.text(uuid), memory: memory,
                    capability: try libraries.capability(of: device), token: token))
        }
        return found
    }

    /// Splits a value of CUDA_VISIBLE_DEVICES into the names of devices, and removes white space.
    package static func tokens(_ list: String) -> [String] {
        list.split(separator: ",").map { String($0.filter { !$0.isWhitespace }) }
    }

    /// Formats 16 bytes as 8-4-4-4-12 hexadecimal digits.
    private static func text(_ uuid: [UInt8]) -> String {
        let digits = uuid.map { String(UInt16($0) + 0x100, radix: 16).dropFirst() }
        return [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { digits[$0].joined() }
            .joined(separator: "-")
    }
}

extension CUDALibraries {
    /// Returns the driver's handle for the device `ordinal` among the devices that this process can see.
    func device(_ ordinal: Int) throws(CUDAError) -> Int32 {
        var device: Int32 = 0
        try check(driver.cuDeviceGet(&device, Int32(ordinal)), "cuDeviceGet")
        return device
    }

    /// Returns the name of the device: "NVIDIA H100 80GB HBM3".
    func name(of device: Int32) throws(CUDAError) -> String {
        var text = [CChar](repeating: 0, count: 256)
        try check(driver.cuDeviceGetName(&text, 256, device), "cuDeviceGetName")
        return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    /// Returns the compute capability, major and minor.
    func capability(of device: Int32) throws(CUDAError) -> [Int] {
        [try attribute(75, of: device), try attribute(76, of: device)]
    }

    /// Returns the value of an attribute; `attribute` is a number of the enumeration CUdevice_attribute (cuda.h).
    func attribute(_ attribute: Int32, of device: Int32) throws(CUDAError) -> Int {
        var value: Int32 = 0
        try check(driver.cuDeviceGetAttribute(&value, attribute, device), "cuDeviceGetAttribute")
        return Int(value)
    }

    /// Throws the error `status` of `function` unless it is 0 (success).
    func check(_ status: Int32, _ function: String) throws(CUDAError) {
        guard status != 0 else { return }
        throw error(status, function)
    }

    /// Makes the error for the status `status` of `function`, a function of the driver ("cu…") or of the runtime
    /// ("cuda…").
    func error(_ status: Int32, _ function: String) -> CUDAError {
        var name: UnsafePointer<CChar>?
        var meaning: UnsafePointer<CChar>?
        if function.hasPrefix("cuda") {
            // The runtime uses the driver's error numbers, and has further numbers of its own.
            (name, meaning) = (runtime.cudaGetErrorName(status), runtime.cudaGetErrorString(status))
        } else {
            _ = driver.cuGetErrorName(status, &name)
            _ = driver.cuGetErrorString(status, &meaning)
        }
        // For an unknown error, a library returns "unrecognized error code", an empty text or null.
        func text(_ pointer: UnsafePointer<CChar>?) -> String? {
            pointer.map { String(cString: $0) }.flatMap {
                ["", "unrecognized error code"].contains($0) ? nil : $0
            }
        }
        let known = CUDAErrorAdvice(function, Int(status))
        return .call(
            function: function, code: Int(status),
            name: text(name) ?? known?.name ?? "an error without a name",
            meaning: text(meaning) ?? known?.meaning ?? "which the driver does not explain")
    }
}
