// Who made which file, and how to tell that it is still the one that was made.

import ByteJSON
import Files
import FoundationEssentials
import Glibc
import Hooks
import RunFiles
import Synchronization

/// Written once a process has put an author's files in their places.
package struct AuthorReceipt: Codable, Sendable {
    /// The author's name and place in the plan's order.
    package var author: String
    var number: Int
    /// Source line, output tokens and truncation of each document.
    var lines: [Int]
    package var tokens: [Int]
    var truncatedRows: [Int]
    /// Batches that were computed in parts for want of memory.
    package var dividedBatches: [Int]
    /// Sums over output tokens, nats.
    var crossEntropySum: Double
    var entropySum: Double
    /// Features that fired over all tokens, by hook.
    package var firingCounts: [String: Int]
    /// The SAE of each hook whose files were made.
    var saes: [String: String]
    /// The kernels in use where the files were made.
    package var kernels: String
    /// The files that were made, by name.
    var files: [String: FileSeal]

    /// All properties, as given.
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

    /// What is compared of an SAE: its name, and its file's size and identity.
    public static func sae(_ name: String, size: Int, identity: String) -> String {
        "\(name), \(size) bytes, identity \(identity)"
    }

    /// Whether its numbers can be those of an author: what is not of our making may say anything.
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

/// The authors that receipts may tell of.
package struct ExpectedAuthors: Sendable {
    /// By name: the place in the plan's order, and how many documents there are.
    var authors: [ExactString: (number: Int, documents: Int)] = [:]
    /// Tokens of a document at most.
    var columns = Int.max
    /// Whether there are no others.
    var areAll = false

    /// The authors `authors`, or none.
    package init(
        authors: [ExactString: (number: Int, documents: Int)] = [:], columns: Int = .max,
        areAll: Bool = false
    ) {
        (self.authors, self.columns, self.areAll) = (authors, columns, areAll)
    }

    /// Whether `receipt` can be that of one of these or, where there are others, of another.
    package func canHave(_ receipt: AuthorReceipt) -> Bool {
        guard let author = authors[ExactString(receipt.author)] else { return !areAll }
        return receipt.number == author.number && receipt.tokens.count == author.documents
            && receipt.tokens.allSatisfy { $0 <= columns }
    }
}

/// What receipts say, looked up by file and by author; from several threads.
package final class Receipts: Sendable {
    /// Files of features that another SAE gave than this configuration's.
    package struct Foreign {
        package let hook: String
        package let sae: String
        package let names: [String]
    }

    private struct Content {
        var byAuthor: [Int: AuthorReceipt] = [:]
        /// By exact names: those of authors may be canonically equivalent, which Swift takes for equal.
        var seals: [ExactString: [FileSeal]] = [:]
        var foreign: [Foreign] = []
    }

    private let content = Mutex(Content())

    /// No receipts.
    package init() {}

    /// Takes in `receipt`; its files of features that another SAE than that in `saes` gave are only remembered as such.
    package func add(_ receipt: AuthorReceipt, saes: [String: String], _ naming: OutputNaming) {
        let foreign = receipt.saes.filter { saes[$0.key] != $0.value }.compactMap { hook, sae in
            HookPoint(hook).map { point in
                Foreign(
                    hook: hook, sae: sae,
                    names: naming.activations(point, author: receipt.author).filter {
                        receipt.files[$0] != nil
                    })
            }
        }
        let foreignNames = Set(foreign.flatMap(\.names).map(ExactString.init))
        content.withLock { content in
            content.foreign += foreign
            for (name, seal) in receipt.files where !foreignNames.contains(ExactString(name)) {
                content.seals[ExactString(name), default: []].append(seal)
            }
            guard let known = content.byAuthor[receipt.number] else {
                var summary = receipt
                summary.files = [:]
                content.byAuthor[receipt.number] = summary
                return
            }
            let counts = known.firingCounts.merging(receipt.firingCounts) { first, _ in first }
            content.byAuthor[receipt.number]!.firingCounts = counts
            let divided = Set(known.dividedBatches + receipt.dividedBatches)
            content.byAuthor[receipt.number]!.dividedBatches = divided.sorted()
        }
    }

    /// Forgets everything.
    package func removeAll() { content.withLock { $0 = Content() } }

    /// What is known of author `number`, from all receipts; without files.
    package func summary(ofAuthor number: Int) -> AuthorReceipt? {
        content.withLock { $0.byAuthor[number] }
    }

    /// What is known of each author, without files.
    package var summaries: [AuthorReceipt] { content.withLock { Array($0.byAuthor.values) } }

    /// Files of features that other SAEs gave.
    package var foreign: [Foreign] { content.withLock { $0.foreign } }

    private func seals(of name: String) -> [FileSeal]? {
        content.withLock { $0.seals[ExactString(name)] }
    }

    /// Whether anything is recorded of `name`.
    func knows(_ name: String) -> Bool { seals(of: name) != nil }

    /// What is recorded of `name`: of several files of that name, the one whose size is in `directory`.
    func seal(of name: String, in directory: String) -> FileSeal? {
        guard let seals = seals(of: name) else { return nil }
        guard seals.count > 1 else { return seals[0] }
        let size = fileSize("\(directory)/\(name)")
        return seals.last { $0.size == size } ?? seals.last
    }

    /// Whether a file of that name and a size that was recorded is in `directory`.
    package func attest(_ name: String, in directory: String) -> Bool {
        var info = stat()
        guard let seals = seals(of: name), stat("\(directory)/\(name)", &info) == 0 else {
            return false
        }
        return seals.contains { $0.size == info.st_size }
    }

    /// What `name` in `directory` is: verified against its seals by all of its bytes, missing or unknown, or
    /// another file than was made. Throws `FileError` where it cannot be read.
    package func verify(_ name: String, in directory: String) throws -> FileState {
        guard let seals = seals(of: name) else { return .missing }
        guard attest(name, in: directory) else {
            return fileExists("\(directory)/\(name)") ? .changed : .missing
        }
        guard let seal = try FileSeal(path: "\(directory)/\(name)") else { return .missing }
        return seals.contains(seal) ? .verified : .changed
    }
}

/// What a final file is found to be.
package enum FileState {
    case verified
    case missing
    case changed
}
