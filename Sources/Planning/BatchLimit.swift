// Divides documents into batches. The division depends only on the lengths of the documents, the flags, and the kind
// and memory of the devices.

import CUDA

/// The limit on the size of a batch.
package enum BatchLimit: Equatable, Codable, Sendable {
    /// The maximum number of documents in a batch.
    case documents(Int)
    /// The maximum number of tokens in a batch, `<bos>` and prefix included. A longer document is a batch of its own.
    case tokens(Int)

    /// Converts `size` to a limit. `devices` are the workers' devices; empty on the CPU. Uses the total memory of the
    /// devices, not the free memory, because a resumed run must make the same batches.
    init(_ size: BatchSize?, devices: [DeviceDescription]) {
        switch (size ?? (devices.isEmpty ? .documents(2) : .auto), devices.map(\.memory).min()) {
        case (.documents(let count), _): self = .documents(count)
        case (.auto, nil): self = .tokens(BatchLimit.tokensOnCPU)
        case (.auto, let memory?):
            // Rounds down to a power of two. Otherwise, devices of one type could have different limits, because
            // their memory differs slightly.
            let tokens = max(1, min(memory / BatchLimit.bytesPerToken, BatchLimit.mostTokens))
            self = .tokens(1 << (Int.bitWidth - 1 - tokens.leadingZeroBitCount))
        }
    }

    /// The limit on the CPU, in tokens. Matrix products with 1000 rows run at full speed, and the activations of 1000
    /// tokens need little memory.
    private static let tokensOnCPU = 1000
    /// The bytes of device memory for each token of the limit: 4 MiB. The activations of a token in the 9b model need
    /// a tenth of this. The rest is for the weights.
    private static let bytesPerToken = 4 << 20
    /// The largest limit on a device, in tokens. More rows do not make matrix products faster.
    private static let mostTokens = 16_384

    /// The limit as text, such as "4" or "auto (1000 tokens)".
    package var description: String {
        switch self {
        case .documents(let count): "\(count)"
        case .tokens(let count): "auto (\(count) tokens)"
        }
    }

    /// Divides documents into contiguous batches. `lengths` has the number of tokens of each document, `<bos>` and
    /// prefix included.
    func batches(lengths: [Int]) -> [Range<Int>] {
        var batches: [Range<Int>] = []
        var start = 0
        var tokens = 0
        for (index, length) in lengths.enumerated() {
            let isFull =
                switch self {
                case .documents(let count): index - start == count
                case .tokens(let count): index > start && tokens + length > count
                }
            if isFull {
                batches.append(start..<index)
                (start, tokens) = (index, 0)
            }
            tokens += length
        }
        if start < lengths.count { batches.append(start..<lengths.count) }
        return batches
    }
}
