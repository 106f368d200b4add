// Errors of NVIDIA's libraries and devices.

/// An error of NVIDIA's libraries or devices, with the next step for the user.
package enum CUDAError: Error, Equatable, CustomStringConvertible {
    /// A library was not found.
    case missingLibrary(name: String, tried: [String], advice: String)
    /// A library lacks a function.
    case missingFunction(library: String, function: String)
    /// The libraries were found, but this process can use no device.
    case noDevice(reason: String)
    /// The driver does not accept the kernels.
    case kernelsRefused(driver: String, reason: String)
    /// The device has too little free memory for an allocation of `bytes` bytes.
    case outOfMemory(bytes: Int, free: Int, total: Int)
    /// The system refused `bytes` bytes of page-locked memory, which the device needs for copies.
    case noHostMemory(bytes: Int)
    /// The free memory of the device is too small for the model with any batch, or for cuBLAS.
    case tooSmall(needed: Int, free: Int, total: Int, parts: String)
    /// The kernels do not support a size of the model or an empty tensor.
    case unsupported(String)
    /// A call of a library failed. After this error, the process should not use the device again.
    case call(function: String, code: Int, name: String, meaning: String)

    /// Whether the device is out of memory, so that a smaller batch may succeed.
    package var isOutOfMemory: Bool {
        switch self {
        case .outOfMemory: true
        // Other calls can run out of memory too: loading a module or a function, and creating an event. 2 is
        // cudaErrorMemoryAllocation (CUDA_ERROR_OUT_OF_MEMORY); 3 is CUBLAS_STATUS_ALLOC_FAILED.
        case .call(let function, let code, _, _): code == (function.hasPrefix("cublas") ? 3 : 2)
        default: false
        }
    }

    /// The error, its details and the next step, in one line.
    package var description: String {
        switch self {
        case .missingLibrary(let name, let tried, let advice):
            "\(name) was not found; \(advice), or run with --device cpu. Tried: \(tried.joined(separator: ", "))"
        case .missingFunction(let library, let function):
            "\(library) has no function \(function): the file is another library, or not from CUDA 11.8 to 13; name the right file in SAE_EXTRACT_CUDA_DRIVER_LIB, SAE_EXTRACT_CUDART_LIB or SAE_EXTRACT_CUBLAS_LIB (sae-extract devices shows which files were found), or run with --device cpu"
        case .noDevice(let reason):
            "no CUDA device can be used: \(reason); or run with --device cpu"
        case .kernelsRefused(let driver, let reason):
            "the driver (\(driver)) does not accept the kernels: \(reason); use a driver of CUDA 11.8 or later (R520) and a device of compute capability 8.0 or later, or run with --device cpu"
        case .outOfMemory(let bytes, let free, let total):
            "the device cannot allocate \(CUDAError.size(bytes)): \(free >> 20) of \(total >> 20) MiB are free; give a smaller --batch_size, or end other processes on the device (nvidia-smi)"
        case .noHostMemory(let bytes):
            "the system refuses \(CUDAError.size(bytes)) of page-locked host memory; raise the limits (ulimit -l, ulimit -v, the job's memory) or give a smaller --batch_size"
        case .tooSmall(let needed, let free, let total, let parts):
            "the device's memory is too small: \(needed >> 20) MiB are needed (\(parts)), \(free >> 20) of \(total >> 20) MiB are free; end other processes on the device (nvidia-smi), or run with fewer --layers, --dtype bfloat16, a smaller --max_seq_len, or another device"
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
                : "check whether libcublas is too new for the driver (sae-extract devices shows both versions), and whether other processes use the device's memory (nvidia-smi)"
        }
        return CUDAErrorAdvice(function, code)?.advice
            ?? "look for the cause with nvidia-smi, dmesg (Xid) and sae-extract devices; if you find no cause, please report this number"
    }
}
