// The environment of the processes that this program starts.

import CPUBackend
import Subprocess
import Tensors

/// Environments of child processes.
enum ChildEnvironment {
    /// Returns the changes to this process' environment for a worker. `token` names the worker's device in CUDA_VISIBLE_DEVICES;
    /// nil: the worker computes on the CPU. `kernels` is the OpenBLAS kernel set for the CPU; nil: OpenBLAS chooses.
    static func worker(token: String?, kernels: String?) -> [String: String?] {
        // The worker sees only its own device, as the first one. On the CPU it sees none.
        var changes: [String: String?] = ["CUDA_VISIBLE_DEVICES": token ?? ""]
        if token == nil, let kernels { changes[OpenBLASKernels.variable] = kernels }
        return changes
    }

    /// Returns this process' environment with `changes` and without the Hub's token. No child uses the Hub.
    static func inherited(with changes: [String: String?]) -> Environment {
        let tokens = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"]
        var all: [Environment.Key: String?] = [:]
        for (name, value) in changes { all[Environment.Key(stringLiteral: name)] = .some(value) }
        for name in tokens { all[Environment.Key(stringLiteral: name)] = .some(nil) }
        return .inherit.updating(all)
    }
}
