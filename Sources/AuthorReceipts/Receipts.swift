// Collects the receipts of a run, and looks up files and authors in them.

import ByteJSON
import Files
import Glibc
import Hooks
import RunFiles
import Synchronization

/// Collects receipts. Returns what the receipts state about a file or an author. Several threads can use it.
package final class Receipts: Sendable {
    /// Activations files of an author that were made with another SAE than this run uses for the hook.
    package struct Foreign {
        package let hook: String
        package let sae: String
        package let names: [String]
    }

    private struct Content {
        var byAuthor: [Int: AuthorReceipt] = [:]
        /// By the file's name: its seals. A file has several seals if several processes made it, with different
        /// kernels. The key is not a `String`, because two file names with different bytes can be equal as `String`.
        var seals: [ExactString: [FileSeal]] = [:]
        var foreign: [Foreign] = []
    }

    private let content = Mutex(Content())

    /// Creates an empty collection.
    package init() {}

    /// Adds `receipt`. `saes` has this run's SAE of each hook, by the hook's name. A file that was made with another
    /// SAE does not count as complete, and is added to `foreign`.
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

    /// Returns the facts of all receipts of the author with index `number`, as one receipt without files. Nil if the
    /// author has no receipt.
    package func summary(ofAuthor number: Int) -> AuthorReceipt? {
        content.withLock { $0.byAuthor[number] }
    }

    /// For each author, the facts of all receipts of the author, as one receipt without files. In no particular
    /// order.
    package var summaries: [AuthorReceipt] { content.withLock { Array($0.byAuthor.values) } }

    /// The files that were made with other SAEs than this run uses.
    package var foreign: [Foreign] { content.withLock { $0.foreign } }

    private func seals(of name: String) -> [FileSeal]? {
        content.withLock { $0.seals[ExactString(name)] }
    }

    /// Whether a receipt records the file `name`.
    func knows(_ name: String) -> Bool { seals(of: name) != nil }

    /// Returns the recorded seal of the file `name`; nil if no receipt records the file. Of several seals, returns
    /// the last one that fits the size of the file in `directory`, or else the last one.
    func seal(of name: String, in directory: String) -> FileSeal? {
        guard let seals = seals(of: name) else { return nil }
        guard seals.count > 1 else { return seals[0] }
        let size = fileSize("\(directory)/\(name)")
        return seals.last { $0.size == size } ?? seals.last
    }

    /// Whether the file `name` exists in `directory` and has a recorded size.
    package func attest(_ name: String, in directory: String) -> Bool {
        var info = stat()
        guard let seals = seals(of: name), stat("\(directory)/\(name)", &info) == 0 else {
            return false
        }
        return seals.contains { $0.size == info.st_size }
    }

    /// Compares the file `name` in `directory` with its recorded seals. Reads the file only if its size fits one of
    /// them. Throws `FileError` if the file cannot be read.
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
    /// The size and CRC-32 are those of a recorded seal.
    case verified
    /// The file does not exist, or no receipt records it.
    case missing
    /// No recorded seal has this size and CRC-32.
    case changed
}
