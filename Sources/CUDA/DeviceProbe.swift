// What devices there are. Asked in a process of its own: whoever has initialised CUDA cannot start workers cleanly, and a
// driver that crashes or hangs takes only the asker with it.

import CCUDA
import FoundationEssentials

/// A device as its driver describes it.
public struct DeviceDescription: Codable, Equatable, Sendable {
    /// "NVIDIA H100 80GB HBM3".
    public let name: String
    /// "GPU-…" or, of a slice of a device, "MIG-…".
    public let uuid: String
    /// All its memory, bytes.
    public let memory: Int
    /// Compute capability, major and minor.
    public let capability: [Int]
    /// What CUDA_VISIBLE_DEVICES is to be for a process that uses this device alone.
    public var token: String

    /// A device, as it is described.
    public init(name: String, uuid: String, memory: Int, capability: [Int], token: String) {
        (self.name, self.uuid, self.memory) = (name, uuid, memory)
        (self.capability, self.token) = (capability, token)
    }

    /// "9.0".
    public var capabilityName: String { capability.map { "\($0)" }.joined(separator: ".") }
}

/// What one look at the machine found.
public struct DeviceProbe: Codable, Equatable, Sendable {
    /// The libraries.
    public var libraries: [LibraryFinding] = []
    /// The devices that this process' environment lets it see.
    public var devices: [DeviceDescription] = []
    /// Why there are none.
    public var problem: String?

    /// Nothing found yet.
    public init() {}

    /// Whether there is no NVIDIA driver at all: then the CPU is the natural choice.
    public var hasDriver: Bool {
        libraries.first { $0.name == "libcuda" }?.path != nil
    }

    /// Looks at the machine. Initialises CUDA in this process, which must be no other's parent.
    public init(environment: [String: String]) {
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
                    "CUDA_VISIBLE_DEVICES is '\($0)', which names none that is there; correct or unset it"
                }
                    ?? "the driver sees none; see nvidia-smi, and whether the job or container was given one"
            )
        }
        let status = driver.cuInit(0)
        if status == 100 { throw none() }
        try libraries.check(status, "cuInit")
        var count: Int32 = 0
        try libraries.check(driver.cuDeviceGetCount(&count), "cuDeviceGetCount")
        guard count > 0 else { throw none() }
        // Does the runtime go with the driver?
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

    /// The devices that a value of CUDA_VISIBLE_DEVICES names.
    public static func tokens(_ list: String) -> [String] {
        list.split(separator: ",").map { String($0.filter { !$0.isWhitespace }) }
    }

    /// 8-4-4-4-12 hexadecimal digits.
    private static func text(_ uuid: [UInt8]) -> String {
        let digits = uuid.map { String(UInt16($0) + 0x100, radix: 16).dropFirst() }
        return [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { digits[$0].joined() }
            .joined(separator: "-")
    }
}

extension CUDALibraries {
    /// The driver's handle of the device `ordinal`, of those that this process can see.
    func device(_ ordinal: Int) throws(CUDAError) -> Int32 {
        var device: Int32 = 0
        try check(driver.cuDeviceGet(&device, Int32(ordinal)), "cuDeviceGet")
        return device
    }

    /// "NVIDIA H100 80GB HBM3".
    func name(of device: Int32) throws(CUDAError) -> String {
        var text = [CChar](repeating: 0, count: 256)
        try check(driver.cuDeviceGetName(&text, 256, device), "cuDeviceGetName")
        return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    /// Compute capability, major and minor.
    func capability(of device: Int32) throws(CUDAError) -> [Int] {
        [try attribute(75, of: device), try attribute(76, of: device)]
    }

    /// One of CUdevice_attribute.
    func attribute(_ attribute: Int32, of device: Int32) throws(CUDAError) -> Int {
        var value: Int32 = 0
        try check(driver.cuDeviceGetAttribute(&value, attribute, device), "cuDeviceGetAttribute")
        return Int(value)
    }

    /// Throws what `status` says where it is none of success.
    func check(_ status: Int32, _ function: String) throws(CUDAError) {
        guard status != 0 else { return }
        throw error(status, function)
    }

    /// The driver's or the runtime's error `status`.
    func error(_ status: Int32, _ function: String) -> CUDAError {
        var name: UnsafePointer<CChar>?
        var meaning: UnsafePointer<CChar>?
        if function.hasPrefix("cuda") {
            // Numbered as the driver's, and some more.
            (name, meaning) = (runtime.cudaGetErrorName(status), runtime.cudaGetErrorString(status))
        } else {
            _ = driver.cuGetErrorName(status, &name)
            _ = driver.cuGetErrorString(status, &meaning)
        }
        // What the driver does not know it calls so, or leaves out.
        func text(_ pointer: UnsafePointer<CChar>?) -> String? {
            pointer.map { String(cString: $0) }.flatMap {
                ["", "unrecognized error code"].contains($0) ? nil : $0
            }
        }
        let known = CUDAErrorAdvice(function, Int(status))
        return .call(
            function: function, code: Int(status),
            name: text(name) ?? known?.name ?? "an error without a name",
            meaning: text(meaning) ?? known?.meaning ?? "of which the driver says nothing")
    }
}
