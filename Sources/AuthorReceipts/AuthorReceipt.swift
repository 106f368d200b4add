// The receipt for an author's output files.

import Files

/// States which files of an author a process has completed, with what it knows of the author. It is written once the files are
/// in place.
package struct AuthorReceipt: Codable, Sendable {
    /// The author's name as the corpus spells it.
    package var author: String
    /// The author's place in the plan's order, from 0.
    var number: Int
    /// The corpus line of each document.
    var lines: [Int]
    /// The number of output tokens of each document.
    package var tokens: [Int]
    /// The documents that were truncated, by their index.
    var truncatedRows: [Int]
    /// The batches that were computed in parts because memory was short, by their index.
    package var dividedBatches: [Int]
    /// The cross-entropy of all output tokens together, in nats.
    var crossEntropySum: Double
    /// The entropy of all output tokens together, in nats.
    var entropySum: Double
    /// The number of features that fired, over all tokens, by the hook's name.
    package var firingCounts: [String: Int]
    /// The SAE of each hook whose files were made, in the form that `sae` returns, by the hook's name.
    var saes: [String: String]
    /// The kernels of the process that made the files.
    package var kernels: String
    /// The size and CRC-32 of each file that was made, by the file's name.
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

    /// Returns the description of an SAE that runs compare: its name, and the size and identity of its file.
    public static func sae(_ name: String, size: Int, identity: String) -> String {
        "\(name), \(size) bytes, identity \(identity)"
    }

    /// Whether the numbers are within the range of any run. A receipt that another program wrote can have any numbers.
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
