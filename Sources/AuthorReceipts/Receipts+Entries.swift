// What `run.json` says about an author, made from receipts.

import ByteJSON
import Files
import RunFiles

extension Receipts {
    /// Whether receipts record all `items` of `author`.
    package func know(_ items: [OutputItem], of author: String, _ naming: OutputNaming) -> Bool {
        items.allSatisfy { knows($0.name(naming, author: author)) }
    }

    /// Returns what `run.json` says about the author of `receipt`. It lists each file of `items` that a receipt
    /// records. If a file has several seals, it has the seal that `seal(of:in:)` chooses.
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
