// Documents to sequences, sequences to batches. Both depend on the author's documents and the flags alone.

import CUDA
import Corpus
import Gemma2
import Tensors
import Tokenization

/// A document as the model sees it.
struct TokenSequence: Equatable {
    /// The document's tokens that are kept, without `<bos>` and prefix: at most `T`.
    var tokens: [TokenID]
    /// Whether tokens were cut off.
    var isTruncated: Bool
}

/// Makes sequences of documents.
struct Tokenizing {
    let tokenizer: GemmaTokenizer
    let head: SequenceHead
    /// Most tokens kept of a document (`T`).
    let limit: Int

    /// Reads the tokenizer of `plan`'s checkpoint. Throws the readers' errors, and `UsageError` where the prefix
    /// is too long for the model.
    init(_ plan: RunPlan) throws {
        let configPath = plan.locations.model.config + "/config.json"
        let config = try Gemma2Config(path: configPath)
        tokenizer = try GemmaTokenizer(directory: plan.locations.model.tokenizer)
        guard tokenizer.count <= config.dVocab else {
            throw CheckpointError.tooFewRows(
                path: configPath, rows: config.dVocab,
                tokenizer: try GemmaTokenizer.file(in: plan.locations.model.tokenizer),
                lastID: tokenizer.count - 1)
        }
        head = SequenceHead(prefix: plan.prefix, tokenizer)
        limit = plan.columns
        guard limit + head.tokens.count <= config.nContext else {
            throw UsageError(
                "--prefix",
                "has \(head.tokens.count - 1) tokens; with --max_seq_len \(plan.maximumLength) that is more than the model's \(config.nContext) positions; shorten either"
            )
        }
    }

    /// The documents' sequences, made on all of `threads`.
    func sequences(_ documents: [Document], on threads: ThreadPool) -> [TokenSequence] {
        var sequences = [TokenSequence?](repeating: nil, count: documents.count)
        var caches = [WordCache](repeating: WordCache(), count: threads.threadCount)
        sequences.withUnsafeMutableBufferPointer { sequences in
            caches.withUnsafeMutableBufferPointer { caches in
                nonisolated(unsafe) let (sequences, caches) = (sequences, caches)
                threads.forEach(documents.count) { item, thread in
                    sequences[item] = tokenizer.sequence(
                        documents[item].text, limit: limit, &caches[thread])
                }
            }
        }
        return sequences.map { $0! }
    }

    /// How `plan` cuts `sequences` into batches.
    func batches(_ sequences: [TokenSequence], _ plan: RunPlan) -> [Range<Int>] {
        plan.batchLimit.batches(lengths: sequences.map { head.tokens.count + $0.tokens.count })
    }
}

/// What is put before each document's tokens.
struct SequenceHead {
    /// `<bos>` and the prefix's tokens.
    let tokens: [TokenID]

    /// Tokenizes the prefix by itself, so that a document's tokens are the same with and without one.
    init(prefix: String, _ tokenizer: GemmaTokenizer) {
        tokens = [tokenizer.bos] + tokenizer.encode(prefix)
    }
}

extension GemmaTokenizer {
    /// `text` cut to `limit` tokens.
    func sequence(_ text: String, limit: Int, _ cache: inout WordCache) -> TokenSequence {
        let ids = encode(text, &cache)
        return TokenSequence(tokens: Array(ids.prefix(limit)), isTruncated: ids.count > limit)
    }
}

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
