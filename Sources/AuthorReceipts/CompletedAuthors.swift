// What `run.json` says of an author, and who tells it before a run has ended.

import ByteJSON
import Files
import FoundationEssentials
import Hooks
import RunFiles

extension Receipts {
    /// Whether all `items` of `author` are recorded.
    package func know(_ items: [OutputItem], of author: String, _ naming: OutputNaming) -> Bool {
        items.allSatisfy { knows($0.name(naming, author: author)) }
    }

    /// The entry of the author of `receipt`, whose files in `directory` are `items`.
    package func entry(
        _ receipt: AuthorReceipt, _ items: [OutputItem], _ naming: OutputNaming,
        in directory: String
    ) -> JSONObject {
        let tokens = receipt.tokens.clampedSum
        let files = items.map { $0.name(naming, author: receipt.author) }.compactMap { name in
            seal(of: name, in: directory).map { (name, $0) }
        }
        return JSONObject(run: [
            .author: .string(receipt.author),
            .nameInFiles: .string(naming.encoded(receipt.author)),
            .documents: .integer(receipt.tokens.count),
            .tokens: .integer(tokens),
            .meanCrossEntropy: .number(receipt.crossEntropySum / Double(max(tokens, 1))),
            .meanEntropy: .number(receipt.entropySum / Double(max(tokens, 1))),
            .sourceLines: .array(receipt.lines.map(JSONValue.integer)),
            .tokensPerRow: .array(receipt.tokens.map(JSONValue.integer)),
            .truncatedRows: .array(receipt.truncatedRows.map(JSONValue.integer)),
            .dividedBatches: .array(receipt.dividedBatches.map(JSONValue.integer)),
            .files: .array(
                files.map { name, seal in
                    .object(of: [
                        .name: .string(name), .size: .integer(seal.size),
                        .crc32: .integer(Int(seal.crc32)),
                    ])
                }),
        ])
    }
}

/// Authors that have been completed since an entry of `run.json` was written, by the receipts of its state folder.
public struct CompletedAuthors {
    private let saveDirectory: String
    private let naming: OutputNaming
    private let receipts = Receipts()
    private let numbers: [ExactString: Int]

    /// The receipts in `folder`, a path within `saveDirectory` as the entry's `state` gives it, of features that `saes`
    /// gave: what `ResumeSettings` says of each SAE, by hook. Where nothing can be read, there are none.
    public init(
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

    /// What `run.json` will say of `author`, and how often features of each hook fired; nil unless the files of `hooks` in
    /// `format` are all recorded.
    public func entry(
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
