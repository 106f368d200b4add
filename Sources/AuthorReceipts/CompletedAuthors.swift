// Finds the authors that were completed after the last entry of `run.json` was written.

import ByteJSON
import Files
import Hooks
import RunFiles

/// The authors that are complete according to the receipts of a state folder. `run.json` does not name an author that
/// was completed after the last entry was written.
package struct CompletedAuthors {
    private let saveDirectory: String
    private let naming: OutputNaming
    private let receipts = Receipts()
    private let numbers: [ExactString: Int]

    /// Reads the receipts in `folder`, a path relative to `saveDirectory` (the key `state` of the entry). A file
    /// counts only if it was made with the SAE that `saes` gives for its hook. `saes` has the description of each SAE
    /// by the hook's name, as in `ResumeSettings`. If the folder cannot be read, no author is complete.
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

    /// Returns the entry that `author` will have in the next `run.json`. `firingCounts` is the number of features
    /// that fired, by the hook's name. Nil unless receipts record all files of `hooks` in `format`.
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
