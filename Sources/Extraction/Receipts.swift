// Who made which file, and how to tell that it is still the one that was made.

import ArrayFiles
import ByteJSON
import FoundationEssentials
import Gemma2
import Glibc
import Synchronization

/// Written once a process has put an author's files in their places.
struct AuthorReceipt: Codable, Sendable {
    /// The author's name and place in the plan's order.
    var author: String
    var number: Int
    /// Source line, output tokens and truncation of each document.
    var lines: [Int]
    var tokens: [Int]
    var truncatedRows: [Int]
    /// Batches that were computed in parts for want of memory.
    var dividedBatches: [Int]
    /// Sums over output tokens, nats.
    var crossEntropySum: Double
    var entropySum: Double
    /// Features that fired over all tokens, by hook.
    var firingCounts: [String: Int]
    /// The SAE of each hook whose files were made.
    var saes: [String: String]
    /// The kernels in use where the files were made.
    var kernels: String
    /// The files that were made, by name.
    var files: [String: FileSeal]

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
struct ExpectedAuthors: Sendable {
    /// By name: the place in the plan's order, and how many documents there are.
    var authors: [ExactString: (number: Int, documents: Int)] = [:]
    /// Tokens of a document at most.
    var columns = Int.max
    /// Whether there are no others.
    var areAll = false

    /// Whether `receipt` can be that of one of these or, where there are others, of another.
    func canHave(_ receipt: AuthorReceipt) -> Bool {
        guard let author = authors[ExactString(receipt.author)] else { return !areAll }
        return receipt.number == author.number && receipt.tokens.count == author.documents
            && receipt.tokens.allSatisfy { $0 <= columns }
    }
}

/// What receipts say, looked up by file and by author; from several threads.
final class Receipts: Sendable {
    /// Files of features that another SAE gave than this configuration's.
    struct Foreign {
        let hook: String
        let sae: String
        let names: [String]
    }

    private struct Content {
        var byAuthor: [Int: AuthorReceipt] = [:]
        /// By exact names: those of authors may be canonically equivalent, which Swift takes for equal.
        var seals: [ExactString: [FileSeal]] = [:]
        var foreign: [Foreign] = []
    }

    private let content = Mutex(Content())

    /// Takes in `receipt`; its files of features that another SAE than that in `saes` gave are only remembered as such.
    func add(_ receipt: AuthorReceipt, saes: [String: String], _ naming: OutputNaming) {
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
    func removeAll() { content.withLock { $0 = Content() } }

    /// What is known of author `number`, from all receipts; without files.
    func summary(ofAuthor number: Int) -> AuthorReceipt? {
        content.withLock { $0.byAuthor[number] }
    }

    /// What is known of each author, without files.
    var summaries: [AuthorReceipt] { content.withLock { Array($0.byAuthor.values) } }

    /// Files of features that other SAEs gave.
    var foreign: [Foreign] { content.withLock { $0.foreign } }

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
    func attest(_ name: String, in directory: String) -> Bool {
        var info = stat()
        guard let seals = seals(of: name), stat("\(directory)/\(name)", &info) == 0 else {
            return false
        }
        return seals.contains { $0.size == info.st_size }
    }

    /// What `name` in `directory` is: verified against its seals by all of its bytes, missing or unknown, or
    /// another file than was made. Throws `FileError` where it cannot be read.
    func verify(_ name: String, in directory: String) throws -> FileState {
        guard let seals = seals(of: name) else { return .missing }
        guard attest(name, in: directory) else {
            return fileExists("\(directory)/\(name)") ? .changed : .missing
        }
        guard let seal = try FileSeal(path: "\(directory)/\(name)") else { return .missing }
        return seals.contains(seal) ? .verified : .changed
    }
}

/// What a final file is found to be.
enum FileState {
    case verified
    case missing
    case changed
}
