// Who made which file, and how to tell that it is still the one that was made.

import ArrayFiles
import ByteJSON
import FoundationEssentials
import Gemma2
import Glibc

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
}

/// All receipts of a state folder, looked up by file.
struct Receipts {
    private var byAuthor: [Int: AuthorReceipt] = [:]
    /// By exact names: those of authors may be canonically equivalent, which Swift takes for equal.
    private var seals: [ExactString: [FileSeal]] = [:]

    /// No receipts.
    init() {}

    /// `receipts` without files of features that another SAE than `configuration`'s gave.
    init(_ receipts: [AuthorReceipt], _ configuration: Configuration, _ naming: OutputNaming) {
        for receipt in receipts {
            let foreign = Set(
                receipt.saes.filter { configuration.saes[$0.key] != $0.value }.keys
                    .compactMap(HookPoint.init)
                    .flatMap { naming.activations($0, author: receipt.author) }
                    .map(ExactString.init))
            for (name, seal) in receipt.files where !foreign.contains(ExactString(name)) {
                seals[ExactString(name), default: []].append(seal)
            }
            guard byAuthor[receipt.number] != nil else {
                byAuthor[receipt.number] = receipt
                continue
            }
            byAuthor[receipt.number]!.firingCounts.merge(receipt.firingCounts) { first, _ in first }
            let divided = Set(byAuthor[receipt.number]!.dividedBatches + receipt.dividedBatches)
            byAuthor[receipt.number]!.dividedBatches = divided.sorted()
        }
    }

    /// What is known of author `number`, from all receipts.
    func summary(ofAuthor number: Int) -> AuthorReceipt? { byAuthor[number] }

    /// Whether anything is recorded of `name`.
    func knows(_ name: String) -> Bool { seals[ExactString(name)] != nil }

    /// What is recorded of `name`: of several files of that name, the one whose size is in `directory`.
    func seal(of name: String, in directory: String) -> FileSeal? {
        guard let seals = seals[ExactString(name)] else { return nil }
        let size = fileSize("\(directory)/\(name)")
        return seals.last { $0.size == size } ?? seals.last
    }

    /// Whether a file of that name and a size that was recorded is in `directory`.
    func attest(_ name: String, in directory: String) -> Bool {
        var info = stat()
        guard let seals = seals[ExactString(name)], stat("\(directory)/\(name)", &info) == 0 else {
            return false
        }
        return seals.contains { $0.size == info.st_size }
    }

    /// What `name` in `directory` is: verified against its seals by all of its bytes, missing or unknown, or
    /// another file than was made. Throws `FileError` where it cannot be read.
    func verify(_ name: String, in directory: String) throws -> FileState {
        guard let seals = seals[ExactString(name)] else { return .missing }
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
