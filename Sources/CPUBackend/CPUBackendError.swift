// The error of the CPU backend.

/// An error of the CPU backend.
package enum CPUBackendError: Error, Equatable, CustomStringConvertible {
    /// The system refused the memory that matrix products need.
    case noMemory(bytes: Int, threads: Int)

    /// The error and the next step, in one line.
    package var description: String {
        switch self {
        case .noMemory(let bytes, let threads):
            "cannot reserve \(bytes >> 20) MiB of memory for matrix products on \(threads) threads; raise the limit (ulimit -v, or the job's memory) or give fewer --threads"
        }
    }
}
