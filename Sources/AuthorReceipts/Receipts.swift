// The receipts of a run, to look up files and authors in.

import ByteJSON
import Files
import Glibc
import Hooks
import RunFiles
import Synchronization

/// Collects receipts and looks up what they state of files and authors. Several threads can use it.
package final class Receipts: Sendable {
    /// Activations files of an author that were made with another SAE than this run uses.
    package struct Foreign {
        package let hook: String
        package let sae: String
        package let names: [String]
    }

    private struct Content {
        var byAuthor: [Int: AuthorReceipt] = [:]
        /// The seals of each file by its exact name. `String` treats canonically equivalent names of authors as equal.
        /// A file has several seals if processes made it with different kernels.
        var seals: [ExactString: [FileSeal]] = [:]
        var foreign: [Foreign] = []
    }

    private let content = Mutex(Content())

    /// Creates an empty collection.
    package init() {}

    /// Adds `receipt`. Files made with another SAE than `saes` names for their hook do not count as complete; `foreign` lists
    /// them.
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

    /// Removes all receipts.
    package func removeAll() { content.withLock { $0 = Content() } }

    /// Returns what all receipts together state of author `number`, without files; nil if no receipt names the author.
    package func summary(ofAuthor number: Int) -> AuthorReceipt? {
        content.withLock { $0.byAuthor[number] }
    }

    /// What all receipts together state of each author, without files. The order is arbitrary.
    package var summaries: [AuthorReceipt] { content.withLock { Array($0.byAuthor.values) } }

    /// The files that were made with other SAEs.
    package var foreign: [Foreign] { content.withLock { $0.foreign } }

    private func seals(of name: String) -> [FileSeal]? {
        content.withLock { $0.seals[ExactString(name)] }
    }

    /// Whether a receipt records the file `name`.
    func knows(_ name: String) -> Bool { seals(of: name) != nil }

    /// Returns the recorded seal of the file `name`; nil if no receipt records it. Of several seals, returns the last whose size
    /// is that of the file in `directory`, or the last if none is.
    func seal(of name: String, in directory: String) -> FileSeal? {
        guard let seals = seals(of: name) else { return nil }
        guard seals.count > 1 else { return seals[0] }
        let size = fileSize("\(directory)/\(name)")
        return seals.last { $0.size == size } ?? seals.last
    }

    /// Whether `directory` has the file `name` with a recorded size.
    package func attest(_ name: String, in directory: String) -> Bool {
        var info = stat()
        guard let seals = seals(of: name), stat("\(directory)/\(name)", &info) == 0 else {
            return false
        }
        return seals.contains { $0.size == info.st_size }
    }

    /// Compares the file `name` in `directory` with its seals; this reads the whole file if its size is recorded. Throws
    /// `FileError` if the file cannot be read.
    package func verify(_ name: String, in directory: String) throws -> FileState {
        guard let seals = seals(of: name) else { return .missing }
        guard attest(name, in: directory) else {
            return fileExists("\(directory)/\(name)") ? .changed : .missing
        }
        guard let seal = try FileSeal(path: "\(directory)/\(name)") else { return .missing }
        return seals.contains(seal) ? .verified : .changed
    }
}

/// The state of an output file compared with its receipts.
package enum FileState {
    /// The size and CRC-32 are as recorded.
    case verified
    /// The file does not exist, or no receipt records it.
    case missing
    /// The size or CRC-32 differs from all that are recorded.
    case changed
}
