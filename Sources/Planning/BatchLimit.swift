// The division of documents into batches. It depends only on the lengths of the documents, the flags, and the kind and memory of
// the devices.

import CUDA

/// The limit on the size of a batch.
public enum BatchLimit: Equatable, Codable, Sendable {
    /// A number of documents.
    case documents(Int)
    /// A number of tokens of all documents together, `<bos>` and prefix included. A longer document is a batch alone.
    case tokens(Int)

    /// Converts `size` for workers on `devices`, or on the CPU if there are none. The limit depends on the total memory of the
    /// devices, not on the free memory, because batches must be the same when a run is continued.
    init(_ size: BatchSize?, devices: [DeviceDescription]) {
        switch (size ?? (devices.isEmpty ? .documents(2) : .auto), devices.map(\.memory).min()) {
        case (.documents(let count), _): self = .documents(count)
        case (.auto, nil): self = .tokens(BatchLimit.tokensOnCPU)
        case (.auto, let memory?):
            // Rounded down to a power of two, because the memory of devices of one type differs slightly.
            let tokens = max(1, min(memory / BatchLimit.bytesPerToken, BatchLimit.mostTokens))
            self = .tokens(1 << (Int.bitWidth - 1 - tokens.leadingZeroBitCount))
        }
    }

    /// The limit on the CPU. Matrix products run at full speed with so many rows, and activations stay small.
    private static let tokensOnCPU = 1000
    /// Bytes of a device's memory per token: ten times the activations of a token in the 9b model. Weights need most of the
    /// memory.
    private static let bytesPerToken = 4 << 20
    /// The largest limit on a device. More rows do not make matrix products faster.
    private static let mostTokens = 16_384

    /// The limit as text: "4" or "auto (1000 tokens)".
    public var description: String {
        switch self {
        case .documents(let count): "\(count)"
        case .tokens(let count): "auto (\(count) tokens)"
        }
    }

    /// Divides documents of these lengths (in tokens, `<bos>` and prefix included) into contiguous batches.
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
