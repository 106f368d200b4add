// The meaning of NVIDIA's error numbers, and the next step for the user. The numbers are those of CUresult (cuda.h)
// and cudaError (driver_types.h). A driver does not know errors that are newer than itself, so the table also has
// names and meanings.

/// Name, meaning and next step of an error of the driver or the runtime.
struct CUDAErrorAdvice {
    /// The driver's name for the error, or the runtime's name if only the runtime has the error.
    let name: String
    /// The meaning of the error, for drivers that have no text for it.
    let meaning: String
    /// The next step for the user.
    let advice: String

    /// Looks up the error `code` that `function` returned. Nil if the code is not in the table.
    init?(_ function: String, _ code: Int) {
        if code == 999, function == "cuInit" {
            (name, meaning) = ("CUDA_ERROR_UNKNOWN", "unknown error")
            advice =
                "the driver is installed but cannot be used: check whether nvidia-smi works, whether the kernel module nvidia_uvm is loaded, and the permissions of /dev/nvidia*"
            return
        }
        guard let known = CUDAErrorAdvice.known[code] else { return nil }
        (name, meaning, advice) = known
    }

    private static let lost =
        "this process cannot use the device any longer: run the same command again to continue; if the error occurs again, check dmesg (Xid) and the device's health (nvidia-smi -q)"
    private static let damaged =
        "the device's memory or links have failed: run the same command again to continue; if the error occurs again, use another device (CUDA_VISIBLE_DEVICES), and have the damaged device checked or reset (nvidia-smi -q -d ECC, dmesg)"
    private static let kernels =
        "the kernels need a device of compute capability 8.0 or later and a driver of CUDA 11.8 or later: use such a device and such a driver (sae-extract devices shows compute capability and driver version)"
    private static let mps =
        "the MPS server does not serve this process: check whether nvidia-cuda-mps-control runs as this user, whether its CUDA_MPS_PIPE_DIRECTORY is the same, and how many clients it has; or run without MPS"

    private static let known: [Int: (name: String, meaning: String, advice: String)] = [
        2: (
            "CUDA_ERROR_OUT_OF_MEMORY", "out of memory",
            "end other processes on the device (nvidia-smi), or give a smaller --batch_size"
        ),
        3: (
            "CUDA_ERROR_NOT_INITIALIZED", "initialization error",
            "the driver or the device is not ready: check whether nvidia-smi works; after an update of the driver, restart the machine"
        ),
        34: (
            "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library",
            "the toolkit's stub was found instead of the driver: name the driver's library in SAE_EXTRACT_CUDA_DRIVER_LIB"
        ),
        35: (
            "cudaErrorInsufficientDriver",
            "CUDA driver version is insufficient for CUDA runtime version",
            "the driver is too old for libcudart: install a newer one, or name an older libcudart in SAE_EXTRACT_CUDART_LIB (sae-extract devices shows both)"
        ),
        36: (
            "cudaErrorCallRequiresNewerDriver",
            "API call is not supported in the installed CUDA driver",
            "the driver is too old for libcudart: install a newer one, or name an older libcudart in SAE_EXTRACT_CUDART_LIB (sae-extract devices shows both)"
        ),
        46: (
            "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable",
            "the device is in exclusive mode (nvidia-smi -q -d COMPUTE), and another process has it: start one task per device, use another device (CUDA_VISIBLE_DEVICES), or share it by MPS (nvidia-cuda-mps-control -d)"
        ),
        100: (
            "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected",
            "check nvidia-smi, CUDA_VISIBLE_DEVICES, and whether the job or container was given a device"
        ),
        101: (
            "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal",
            "CUDA_VISIBLE_DEVICES names a device that does not exist, or a device has fallen off the bus: see nvidia-smi and dmesg (Xid 79)"
        ),
        102: (
            "CUDA_ERROR_DEVICE_NOT_LICENSED", "device doesn't have valid Grid license",
            "this virtual GPU has no licence: see nvidia-smi -q and the service nvidia-gridd"
        ),
        200: ("CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid", kernels),
        201: (
            "CUDA_ERROR_INVALID_CONTEXT", "invalid device context",
            "the driver or another library of this process has closed the device: run the same command again to continue; if the error occurs again, check dmesg (Xid), and please report the error"
        ),
        209: (
            "CUDA_ERROR_NO_BINARY_FOR_GPU",
            "no kernel image is available for execution on the device", kernels
        ),
        214: ("CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered", damaged),
        218: ("CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed", kernels),
        220: (
            "CUDA_ERROR_NVLINK_UNCORRECTABLE",
            "uncorrectable NVLink error detected during the execution", damaged
        ),
        221: (
            "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "PTX JIT compiler library not found",
            "libnvidia-ptxjitcompiler.so.1, a part of the driver, is missing: install the complete driver; in a container, let the NVIDIA runtime add this library (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
        ),
        222: (
            "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
            "the provided PTX was compiled with an unsupported toolchain", kernels
        ),
        223: (
            "CUDA_ERROR_JIT_COMPILATION_DISABLED", "PTX JIT compilation was disabled",
            "unset CUDA_DISABLE_PTX_JIT and CUDA_DISABLE_JIT"
        ),
        304: (
            "CUDA_ERROR_OPERATING_SYSTEM", "OS call failed or operation not supported on this OS",
            "the system refused an operation of the driver: check the permissions of /dev/nvidia*, the limits (ulimit -a), whether the container has all device files, and dmesg"
        ),
        700: ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered", lost),
        702: (
            "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated",
            "a device that also drives a display stops kernels that take long: use another device (CUDA_VISIBLE_DEVICES), or give a smaller --batch_size"
        ),
        710: ("CUDA_ERROR_ASSERT", "device-side assert triggered", lost),
        714: ("CUDA_ERROR_HARDWARE_STACK_ERROR", "hardware stack error", lost),
        715: ("CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered", lost),
        716: ("CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address", lost),
        717: (
            "CUDA_ERROR_INVALID_ADDRESS_SPACE",
            "operation not supported on global/shared address space", lost
        ),
        718: ("CUDA_ERROR_INVALID_PC", "invalid program counter", lost),
        719: ("CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure", lost),
        800: (
            "CUDA_ERROR_NOT_PERMITTED", "operation not permitted",
            "check the permissions of /dev/nvidia*, in the container as well"
        ),
        801: (
            "CUDA_ERROR_NOT_SUPPORTED", "operation not supported",
            "this device, MIG slice or driver lacks a required feature: use another device (sae-extract devices lists the devices), and please report the error"
        ),
        802: (
            "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized",
            "on a machine with NVSwitch, the fabric manager must run, in exactly the driver's version: check it (systemctl status nvidia-fabricmanager), start it (systemctl start nvidia-fabricmanager); if the machine has just started, wait a minute"
        ),
        803: (
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            "system has unsupported display driver / cuda driver combination",
            "the driver's library and the loaded driver are of different versions: restart the machine, or run in a container that fits the driver (cat /proc/driver/nvidia/version)"
        ),
        804: (
            "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
            "forward compatibility was attempted on non supported HW",
            "the driver's library and the loaded driver are of different versions: restart the machine if the driver was updated; if the library is from cuda-compat (LD_LIBRARY_PATH, /usr/local/cuda/compat), which GeForce devices do not support, remove cuda-compat or update the driver"
        ),
        805: (
            "CUDA_ERROR_MPS_CONNECTION_FAILED",
            "MPS client failed to connect to the MPS control daemon or the MPS server", mps
        ),
        806: (
            "CUDA_ERROR_MPS_RPC_FAILURE",
            "the remote procedural call between the MPS server and the MPS client failed", mps
        ),
        807: (
            "CUDA_ERROR_MPS_SERVER_NOT_READY",
            "MPS server is not ready to accept new MPS client requests", mps
        ),
        808: (
            "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED",
            "the hardware resources required to create MPS client have been exhausted", mps
        ),
        809: (
            "CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED",
            "the hardware resources required to device connections have been exhausted", mps
        ),
        810: (
            "CUDA_ERROR_MPS_CLIENT_TERMINATED", "the MPS client has been terminated by the server",
            mps
        ),
        999: ("CUDA_ERROR_UNKNOWN", "unknown error", lost),
    ]
}
