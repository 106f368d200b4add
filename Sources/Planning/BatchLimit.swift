// Sequences to batches: which documents go through the model together. It depends on the documents' lengths, the flags and
// the kind of device alone.

import CUDA

/// What limits a forward pass.
public enum BatchLimit: Equatable, Codable, Sendable {
    /// So many documents.
    case documents(Int)
    /// As many documents as have so many tokens together, `<bos>` and prefix included.
    case tokens(Int)

    /// What `size` means for workers on `devices` or, without, on the CPU. It depends on the devices' whole memory, not on
    /// what is free of it at the moment: batches must be the same when a run is continued.
    init(_ size: BatchSize?, devices: [DeviceDescription]) {
        switch (size ?? (devices.isEmpty ? .documents(2) : .auto), devices.map(\.memory).min()) {
        case (.documents(let count), _): self = .documents(count)
        case (.auto, nil): self = .tokens(BatchLimit.tokensOnCPU)
        case (.auto, let memory?):
            // A power of two, so that cards of one size, which differ by a little, agree.
            let tokens = max(1, min(memory / BatchLimit.bytesPerToken, BatchLimit.mostTokens))
            self = .tokens(1 << (Int.bitWidth - 1 - tokens.leadingZeroBitCount))
        }
    }

    /// Enough rows for products to run at full speed, few enough for activations to stay small.
    private static let tokensOnCPU = 1000
    /// Of a device's memory: the activations of a token in the 9b model, ten times; weights want most of it.
    private static let bytesPerToken = 4 << 20
    /// Beyond this products get no faster.
    private static let mostTokens = 16_384

    /// "4", "auto (1000 tokens)".
    public var description: String {
        switch self {
        case .documents(let count): "\(count)"
        case .tokens(let count): "auto (\(count) tokens)"
        }
    }

    /// Cuts documents of these lengths (in tokens, head included) into contiguous batches.
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
