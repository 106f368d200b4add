// The environment of the processes that this program starts.

import CPUBackend
import Subprocess
import Tensors

/// The environments of child processes.
enum ChildEnvironment {
    /// Returns the changes that turn this process' environment into that of a worker. `token` is the worker's device
    /// in CUDA_VISIBLE_DEVICES. If it is nil, the worker computes on the CPU. `kernels` is the OpenBLAS kernel set.
    /// If it is nil, OpenBLAS chooses.
    static func worker(token: String?, kernels: String?) -> [String: String?] {
        // A worker on CUDA sees only its own device. A worker on the CPU sees no device.
        var changes: [String: String?] = ["CUDA_VISIBLE_DEVICES": token ?? ""]
        if token == nil, let kernels { changes[OpenBLASKernels.variable] = kernels }
        return changes
    }

    /// Returns this process' environment with `changes`. Leaves out the Hub's token, which no child process needs.
    static func inherited(with changes: [String: String?]) -> Environment {
        let tokens = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"]
        var all: [Environment.Key: String?] = [:]
        for (name, value) in changes { all[Environment.Key(stringLiteral: name)] = .some(value) }
        for name in tokens { all[Environment.Key(stringLiteral: name)] = .some(nil) }
        return .inherit.updating(all)
    }
}
