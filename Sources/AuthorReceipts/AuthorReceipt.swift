// The receipt for the output files of an author.

import Files

/// A receipt: which files of an author a process has completed, and facts about the author's documents. A process
/// writes the receipt after it has renamed the files to their final paths.
package struct AuthorReceipt: Codable, Sendable {
    /// The author's name as the corpus spells it.
    package var author: String
    /// The index of the author in the plan's order, from 0.
    var number: Int
    /// The line number in the corpus of each document.
    var lines: [Int]
    /// The number of output tokens of each document.
    package var tokens: [Int]
    /// The indices of the documents that were truncated.
    var truncatedRows: [Int]
    /// The indices of the batches that were computed in parts because memory was short.
    package var dividedBatches: [Int]
    /// The cross-entropy in nats, summed over all output tokens.
    var crossEntropySum: Double
    /// The entropy in nats, summed over all output tokens.
    var entropySum: Double
    /// By the hook's name: the number of features that fired, summed over all tokens.
    package var firingCounts: [String: Int]
    /// By the hook's name: the SAE with which the hook's files were made, in the form that `sae` returns.
    var saes: [String: String]
    /// The name of the kernels that the process used.
    package var kernels: String
    /// By the file's name: the size and CRC-32 of each completed file.
    var files: [String: FileSeal]

    /// Creates the receipt for `files` of `author`. `lines` and `tokens` have one entry per document.
    package init(
        author: String, number: Int, lines: [Int], tokens: [Int], truncatedRows: [Int],
        dividedBatches: [Int], crossEntropySum: Double, entropySum: Double,
        firingCounts: [String: Int], saes: [String: String], kernels: String,
        files: [String: FileSeal]
    ) {
        self.author = author
        self.number = number
        self.lines = lines
        self.tokens = tokens
        self.truncatedRows = truncatedRows
        self.dividedBatches = dividedBatches
        self.crossEntropySum = crossEntropySum
        self.entropySum = entropySum
        self.firingCounts = firingCounts
        self.saes = saes
        self.kernels = kernels
        self.files = files
    }

    /// Returns the text by which runs compare their SAEs: the name of the SAE, and the size and identity of its file.
    package static func sae(_ name: String, size: Int, identity: String) -> String {
        "\(name), \(size) bytes, identity \(identity)"
    }

    /// Whether the numbers are possible in a run. A receipt that another program wrote can have any numbers.
    var isPlausible: Bool {
        number >= 0 && lines.count == tokens.count && lines.allSatisfy { $0 >= 0 }
            && tokens.allSatisfy((0...1 << 26).contains)
            && truncatedRows.allSatisfy(tokens.indices.contains)
            && dividedBatches.allSatisfy(tokens.indices.contains)
            && firingCounts.values.allSatisfy((0...1 << 50).contains)
            && [crossEntropySum, entropySum].allSatisfy { $0 >= 0 && $0.isFinite }
            && files.values.allSatisfy { $0.size >= 0 }
    }
}
