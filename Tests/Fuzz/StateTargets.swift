// Fuzz targets for run.json, and for the journals and receipts that other processes leave in the state folder.

import Files
import Foundation
import Hooks
import Results
import Tensors
import TestSupport
import Threading

@testable import AuthorReceipts
@testable import RunFiles
@testable import RunState

extension FuzzTarget {
    static let states = [journal, frames, receipt, manifest]

    // MARK: Journals

    private static let journalHeader = JournalHeader(
        saes: ["blocks.3.attn.hook_z": "a"], items: [.activations(hook, isSparse: true)],
        kernels: "k",
        host: "h", process: 1)
    private static let hook = HookPoint(layer: 3, site: .att)
    private static let records = [
        BatchRecord(
            documents: [
                DocumentRecord(tokens: [5, 6], crossEntropy: [1, 2], entropy: [0, 0.5]),
                DocumentRecord(tokens: [], crossEntropy: [], entropy: []),
            ],
            features: [
                hook: SparseRows(starts: [0, 1, 3], columns: [7, 0, 9], values: [1, 1, 1])
            ],
            parts: 2)
    ]

    /// Returns the encoded sections of the record in `records`.
    private static func sections(_ values: ActivationValues) throws -> [EncodedSection] {
        records[0].sections(values: values, on: try ThreadPool(threadCount: 1))
    }

    /// Fuzz target for journals. An input is a whole journal file.
    private static let journal = FuzzTarget("journal", dictionary: ["SAEJRNL1", "\u{46}EAS"]) {
        let folder = try TemporaryFolder()
        let writer = try JournalWriter(directory: GuardedPath(folder.path), header: journalHeader)
        for (i, values) in ActivationValues.allCases.enumerated() {
            try writer.append(author: 4, batch: i, documents: 2, try sections(values))
        }
        return [try TestData.bytes(writer.place.path)]
    } body: { input in
        try readJournal(Workspace.file(input))
    }

    /// Fuzz target for journals with correct checksums, which random changes to a journal would almost never give. An
    /// input is a list of frames, from which the target builds the journal. Each frame has one byte each for author,
    /// batch and flags, two bytes with the payload's length (little-endian), and the payload.
    private static let frames = FuzzTarget("journal-frames") {
        try ActivationValues.allCases.map { values in
            let folder = try TemporaryFolder()
            let writer = try JournalWriter(
                directory: GuardedPath(folder.path), header: journalHeader)
            let places = try writer.append(author: 1, batch: 0, documents: 2, try sections(values))
            let start = places.values.map(\.lowerBound).min()!
            // The payload starts with the section table: four bytes, and sixteen bytes for each section.
            let payload = try TestData.bytes(writer.place.path)[
                (start - 4 - 16 * places.count)...]
            return [1, 0, 0, UInt8(payload.count & 0xFF), UInt8(payload.count >> 8)] + payload
        }
    } body: { input in
        var bytes = JournalWriter.signature
        func append(_ head: FrameHead, _ payload: some Sequence<UInt8>) {
            bytes += head.encoded
            bytes += payload
        }
        let header = Array(try! JSONEncoder().encode(journalHeader))
        append(
            FrameHead(
                author: .max, batch: .max, documents: 0, length: header.count,
                crc: header.withUnsafeBytes { crc32($0) }), header)
        var rest = input[...]
        while rest.count >= 5 {
            let head = Array(rest.prefix(5))
            let payload = Array(rest.dropFirst(5).prefix(Int(head[3]) | Int(head[4]) << 8))
            rest = rest.dropFirst(5 + payload.count)
            // A flag gives the frame head a length that is too large. Another flag gives it a wrong checksum.
            let length = head[2] & 1 != 0 ? Int.max - Int(head[2]) : payload.count
            append(
                FrameHead(
                    author: UInt32(head[0]), batch: UInt32(head[1]), documents: 2, length: length,
                    crc: payload.withUnsafeBytes { crc32($0) } ^ UInt32(head[2] >> 1 & 1)), payload)
        }
        try readJournal(Workspace.file(bytes))
    }

    private static func readJournal(_ path: String) throws {
        let size = fileSize(path)
        for wanted in [0..<2, 0..<0, 0..<Int.max] {
            guard let reader = try JournalReader(GuardedPath(file: path)) else {
                fatalError("no journal")
            }
            check(try reader.size(ofAuthors: [0, 1]) <= size, "frames larger than the file")
            let limits = RecordLimits(values: .binary, threshold: 0, widths: [hook: 1 << 14])
            for batch in try reader.newBatches(limits, wanted.contains) {
                check(wanted.contains(batch.author), "a batch of the wrong author")
                for (section, range) in batch.sections {
                    guard let bytes = try reader.read(range) else {
                        fatalError("a listed section cannot be read")
                    }
                    switch section {
                    case .documents: _ = BatchRecord.decodeDocuments(bytes)
                    case .division: break
                    case .features:
                        let count = BatchRecord.firingCount(
                            length: bytes.count, rows: batch.rows, values: limits.values)
                        let features = BatchRecord.decodeFeatures(bytes, values: limits.values)
                        check(features.columns.count == count, "wrong number of entries")
                        check(features.rowCount == batch.rows, "wrong number of rows")
                    }
                }
            }
            check(
                try reader.newBatches(limits) { _ in true }.isEmpty, "a batch is returned twice")
        }
    }

    // MARK: Receipts and manifests

    private static let receipt = FuzzTarget(
        "receipt",
        dictionary: jsonWords + [
            "author", "number", "lines", "tokens", "truncatedRows", "dividedBatches",
            "firingCounts", "saes",
            "files", "crossEntropySum", "entropySum", "kernels", "blocks.3.attn.hook_z",
        ]
    ) {
        let name = OutputNaming(label: "a/b").activations(hook, author: "ä", isSparse: true)
        return [
            Array(
                try JSONEncoder().encode(
                    AuthorReceipt(
                        author: "ä", number: 3, lines: [1, 2], tokens: [3, 4], truncatedRows: [1],
                        dividedBatches: [0], crossEntropySum: 1.5, entropySum: 2,
                        firingCounts: ["blocks.3.attn.hook_z": 7],
                        saes: ["blocks.3.attn.hook_z": "a"], kernels: "k",
                        files: [name: FileSeal(size: 5, crc32: 6)])))
        ]
    } body: { input in
        let receipt = try JSONDecoder().decode(AuthorReceipt.self, from: Data(input))
        let configuration = try! JSONDecoder().decode(
            ResumeSettings.self,
            from: Data(
                #"{"settings": [], "selection": [], "saes": {"blocks.3.attn.hook_z": "a"}}"#.utf8))
        // The reader of receipts ignores implausible receipts, so this target does too.
        guard receipt.isPlausible else { return }
        let receipts = Receipts()
        for _ in 0..<2 {
            receipts.add(receipt, saes: configuration.saes, OutputNaming(label: "a/b"))
        }
        for name in receipt.files.keys {
            _ = receipts.attest(name, in: Workspace.folder)
            _ = receipts.seal(of: name, in: Workspace.folder)
        }
        check(receipts.summary(ofAuthor: receipt.number) != nil, "an author without a summary")
    }

    private static let manifest = FuzzTarget(
        "run-json",
        dictionary: jsonWords + [
            "runs", "label", "authors", "saes", "files", "tokens_per_row", "truncated_rows",
            "overwrote", "world_size",
            "ranks", "authors_not_complete", "storage_format",
        ]
    ) {
        let entry = """
            {"model": {"label": "m/x"}, "outcome": "done", "shape": {"documents": 2, "tokens": 4}, "dtype": "float32",
            "settings": {"layers": [1], "storage_format": "both", "max_seq_len": 5, "feature_threshold": 1.0},
            "saes": [{"hook": "blocks.1.hook_resid_post", "sae_name": "layer_1/width_16k/average_l0_7", "d_sae": 70,
            "mean_l0": 2.5}], "tokens": 3, "ranks": [0], "world_size": 1, "authors_not_complete": ["b"],
            "authors": [{"author": "a", "tokens_per_row": [3, 0], "truncated_rows": [0], "source_lines": [1],
            "files": [{"name": "f", "size": 5, "crc32": 4294967295}]}]}
            """
        return [Array("{\"runs\": [\(entry), \(entry)]}".utf8)]
    } body: { input in
        _ = Workspace.file(input, "run.json")
        let run = try FinishedRun(Workspace.folder)
        check(!run.notes.contains(""), "an empty note")
    }
}
