// Finds the authors that were completed after the last write of `run.json`.

import ByteJSON
import Files
import Hooks
import RunFiles

/// The authors that are complete according to the receipts of a state folder. If an author was completed after the
/// last write of `run.json`, only receipts name it.
package struct CompletedAuthors {
    private let saveDirectory: String
    private let naming: OutputNaming
    private let receipts = Receipts()
    private let numbers: [ExactString: Int]

    /// Reads the receipts in `folder`, a path relative to `saveDirectory`. If the folder cannot be read, no author is
    /// complete. `saes` has the SAE of each hook, by the hook's name, as `AuthorReceipt.sae` describes it. Files that
    /// were made with other SAEs do not count.
    package init(
        saveDirectory: String, folder: String, saes: [String: String], naming: OutputNaming
    ) {
        (self.saveDirectory, self.naming) = (saveDirectory, naming)
        let opened = GuardedPath(saveDirectory, below: folder).flatMap { try? $0.folder() }
        for receipt in opened.flatMap({ try? ReceiptReader().new(in: $0) }) ?? [] {
            receipts.add(receipt, saes: saes, naming)
        }
        numbers = Dictionary(
            receipts.summaries.map { (ExactString($0.author), $0.number) },
            uniquingKeysWith: { first, _ in first })
    }

    /// Returns what the next `run.json` will say about `author`, and the number of features that fired, by the hook's
    /// name. Nil unless receipts record all files of `hooks` in `format`.
    package func entry(
        _ author: String, hooks: [HookPoint], format: StorageFormat
    ) -> (entry: JSONObject, firingCounts: [String: Int])? {
        let items = OutputItem.items(of: hooks, in: format)
        guard let number = numbers[ExactString(author)],
            let receipt = receipts.summary(ofAuthor: number),
            receipts.know(items, of: author, naming)
        else { return nil }
        return (receipts.entry(receipt, items, naming, in: saveDirectory), receipt.firingCounts)
    }
}
