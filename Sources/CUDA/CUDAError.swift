// Why a device cannot be used, or no longer.

/// A failure of NVIDIA's libraries or devices, with what to do about it.
public enum CUDAError: Error, Equatable, CustomStringConvertible {
    /// A library was not found.
    case missingLibrary(name: String, tried: [String], advice: String)
    /// A library lacks a function.
    case missingFunction(library: String, function: String)
    /// There are libraries but no device that this process may use.
    case noDevice(reason: String)
    /// The driver does not take the kernels.
    case kernelsRefused(driver: String, reason: String)
    /// The device's memory is used up.
    case outOfMemory(bytes: Int, free: Int, total: Int)
    /// The system gives no memory that a device can copy from.
    case noHostMemory(bytes: Int)
    /// The model does not fit the device, whatever the batch.
    case tooSmall(needed: Int, free: Int, total: Int, parts: String)
    /// The model has sizes that the kernels are not made for.
    case unsupported(String)
    /// A call failed; nothing more can be expected of the device in this process.
    case call(function: String, code: Int, name: String, meaning: String)

    /// Whether a smaller batch might do.
    public var isOutOfMemory: Bool {
        switch self {
        case .outOfMemory: true
        // Modules, functions and events take memory when they are first used; CUBLAS_STATUS_ALLOC_FAILED.
        case .call(let function, let code, _, _): code == (function.hasPrefix("cublas") ? 3 : 2)
        default: false
        }
    }

    /// What is wrong, where, and the next step.
    public var description: String {
        switch self {
        case .missingLibrary(let name, let tried, let advice):
            "\(name) was not found; \(advice), or run with --device cpu. Tried: \(tried.joined(separator: ", "))"
        case .missingFunction(let library, let function):
            "\(library) has no function \(function): it is not the library it is named after, or of another CUDA than 11.8 to 13; name another one (sae-extract devices shows which were tried), or run with --device cpu"
        case .noDevice(let reason):
            "no CUDA device can be used: \(reason); or run with --device cpu"
        case .kernelsRefused(let driver, let reason):
            "the driver (\(driver)) does not take the kernels: \(reason); they need a driver of CUDA 11.8 or later (R520) and a device of compute capability 8.0 or later; or run with --device cpu"
        case .outOfMemory(let bytes, let free, let total):
            "the device has no \(CUDAError.size(bytes)) left: \(free >> 20) of \(total >> 20) MiB are free; give a smaller --batch_size, or end other processes on the device (nvidia-smi)"
        case .noHostMemory(let bytes):
            "the system gives no \(CUDAError.size(bytes)) of page-locked memory; raise the limits (ulimit -l, ulimit -v, the job's memory) or give a smaller --batch_size"
        case .tooSmall(let needed, let free, let total, let parts):
            "the device's memory is too small: \(needed >> 20) MiB are needed (\(parts)), \(free >> 20) of \(total >> 20) MiB are free; end other processes on it (nvidia-smi), give fewer --layers, --dtype bfloat16, a smaller --max_seq_len, or another device"
        case .unsupported(let reason):
            "\(reason); run with --device cpu"
        case .call(let function, let code, let name, let meaning):
            "\(function) failed: \(name) (\(code)), \(meaning); \(CUDAError.advice(function, code)); or run with --device cpu"
        }
    }

    private static func size(_ bytes: Int) -> String {
        bytes < 1 << 20 ? "\((bytes + 1023) >> 10) KiB" : "\(bytes >> 20) MiB"
    }

    private static func advice(_ function: String, _ code: Int) -> String {
        if function.hasPrefix("cublas") {
            return [13, 14].contains(code)
                ? CUDAErrorAdvice("", 719)!.advice
                : "see whether libcublas and the driver go together (sae-extract devices), and whether other processes fill the device (nvidia-smi)"
        }
        return CUDAErrorAdvice(function, code)?.advice
            ?? "see what nvidia-smi, dmesg (Xid) and sae-extract devices say, and please report this number if they say nothing"
    }
}
