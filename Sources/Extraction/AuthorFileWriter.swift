// Writes an author's files. The content is streamed from the journals, so no file is ever whole in memory.

import ArrayFiles
import ByteJSON
import Corpus
import Files
import FoundationEssentials
import Hooks
import Planning
import RunFiles
import RunState
import Tensors
import Threading
import Tokenization

/// Writes the files of one author. `journal` must have all batches of the author.
struct AuthorFileWriter {
    let plan: RunPlan
    let author: AuthorDocuments
    let summary: AuthorSummary
    let journal: AuthorJournal
    let tokenizer: any Tokenizer
    /// The number of features of each hook's SAE (`d_sae`).
    let widths: [HookPoint: Int]
    /// The state folder. Each file is written in this folder and, when it is complete, renamed to its place in
    /// `save_dir`.
    let state: StateFolder
    let stop: StopFlag

    /// The zlib compression level for the arrays of sparse files. Higher levels are slower and do not make these
    /// files smaller.
    private static let level: Int32 = 1

    /// Writes `items`, each on one thread. Returns their seals by file name. Throws `FileError`, `StateRemovedError`
    /// or `StopRequest`.
    func write(_ items: [OutputItem], on threads: ThreadPool) throws -> [String: FileSeal] {
        var seals = [FileSeal?](repeating: nil, count: items.count)
        try seals.withUnsafeMutableBufferPointer { seals in
            nonisolated(unsafe) let seals = seals
            try threads.tryForEach(items.count) { item, _ in seals[item] = try write(items[item]) }
        }
        return Dictionary(
            uniqueKeysWithValues: zip(items, seals).map {
                ($0.name(naming, author: author.author), $1!)
            })
    }

    private func write(_ item: OutputItem) throws -> FileSeal {
        let body: (OutputFile) throws -> Void =
            switch item {
            case .activations(let hook, let isSparse):
                { try isSparse ? writeSparse(sae(of: hook), $0) : writeDense(sae(of: hook), $0) }
            case .shared(.crossEntropy): { try writeMetric(\.crossEntropy, $0) }
            case .shared(.entropy): { try writeMetric(\.entropy, $0) }
            case .shared(.tokens): writeTokens
            case .shared(.texts): writeTexts
            }
        let place = GuardedPath(plan.saveDirectory, item.name(naming, author: author.author))
        return try state.makeFile(place) { file in
            try stop.check()
            try body(file)
        }
    }

    private func sae(of hook: HookPoint) -> ChosenSAE { plan.saes.first { $0.hook == hook }! }

    // MARK: Metrics, tokens, texts

    /// Writes the metric `values` as a float16 array of shape (`plan.rows`, `plan.columns`), with 0 at padding.
    private func writeMetric(
        _ values: KeyPath<DocumentRecord, [Float16]>, _ file: OutputFile
    ) throws {
        try file.write(NPYHeader(descr: "<f2", shape: [plan.rows, plan.columns]).encoded)
        try forEachDocument { document in
            let row = document.map { $0[keyPath: values] } ?? []
            let padded = row + Array(repeating: 0, count: plan.columns - row.count)
            try padded.withUnsafeBytes { try file.write($0) }
        }
    }

    /// Writes a JSON array that has an array of token pieces for each document. Shorter documents are padded with
    /// `<pad>` to `plan.columns` pieces.
    private func writeTokens(_ file: OutputFile) throws {
        try writeJSONArray(to: file) { append in
            for batch in journal.batches.indices {
                for document in try journal.documents(of: batch) {
                    try append { tokensJSON(document.tokens, &$0) }
                }
            }
        }
    }

    private func tokensJSON(_ tokens: [TokenID], _ out: inout [UInt8]) {
        out.append(UInt8(ascii: "["))
        for column in 0..<plan.columns {
            if column > 0 { out.append(UInt8(ascii: ",")) }
            JSONText.appendBreak(level: 2, to: &out)
            let id = column < tokens.count ? tokens[column] : tokenizer.pad
            JSONText.append(string: tokenizer.piece(id), to: &out)
        }
        JSONText.appendBreak(level: 1, to: &out)
        out.append(UInt8(ascii: "]"))
    }

    private func writeTexts(_ file: OutputFile) throws {
        try writeJSONArray(to: file) { append in
            for document in author.documents {
                try append { JSONText.append(string: document.text.utf8, to: &$0) }
            }
        }
    }

    /// Writes a JSON array. `elements` must call `append` once for each element, with a function that appends the
    /// element's JSON to a buffer.
    private func writeJSONArray(
        to file: OutputFile,
        _ elements: (_ append: ((inout [UInt8]) -> Void) throws -> Void) throws -> Void
    ) throws {
        var buffer = [UInt8(ascii: "[")]
        var isFirst = true
        try elements { element in
            if !isFirst { buffer.append(UInt8(ascii: ",")) }
            isFirst = false
            JSONText.appendBreak(level: 1, to: &buffer)
            element(&buffer)
            try file.write(buffer)
            buffer.removeAll(keepingCapacity: true)
        }
        if !isFirst { JSONText.appendBreak(level: 0, to: &buffer) }
        buffer.append(UInt8(ascii: "]"))
        try file.write(buffer)
    }

    // MARK: Activations

    /// Writes an NPZ archive with `activations`, a float32 array of shape (documents, tokens, features), and
    /// `metadata`.
    private func writeDense(_ sae: ChosenSAE, _ file: OutputFile) throws {
        let width = widths[sae.hook]!
        let archive = NPZWriter(file, level: AuthorFileWriter.level)
        let header = NPYHeader(descr: "<f4", shape: [plan.rows, plan.columns, width])
        try archive.addSparse("activations", header) { element in
            var start = 0
            try forEachOutputRow(sae.hook) { entries, features in
                for entry in entries {
                    try element(start + Int(features.columns[entry]), features.values[entry])
                }
                start += width
            }
        }
        try writeMetadata(sae, to: archive)
    }

    /// Writes an NPZ archive with `metadata` and the members that `scipy.sparse.save_npz` writes for a CSR matrix.
    /// The matrix has a row for each position of each document, and a column for each feature.
    private func writeSparse(_ sae: ChosenSAE, _ file: OutputFile) throws {
        let width = widths[sae.hook]!
        let count = summary.firingCounts[sae.hook]!
        let isWide = max(count, plan.rows * plan.columns) > Int(Int32.max)
        let integer = isWide ? "<i8" : "<i4"
        func bytes(_ values: [Int], _ body: (UnsafeRawBufferPointer) throws -> Void) throws {
            if isWide {
                try values.map(Int64.init).withUnsafeBytes(body)
            } else {
                try values.map(Int32.init).withUnsafeBytes(body)
            }
        }
        let archive = NPZWriter(file, level: AuthorFileWriter.level)
        try archive.begin("indices", NPYHeader(descr: integer, shape: [count]))
        try forEachOutputRow(sae.hook) { entries, features in
            try bytes(features.columns[entries].map(Int.init)) { try archive.write($0) }
        }
        try archive.end()
        let rowCount = plan.rows * plan.columns
        try archive.begin("indptr", NPYHeader(descr: integer, shape: [rowCount + 1]))
        var total = 0
        try bytes([0]) { try archive.write($0) }
        try forEachOutputRow(sae.hook) { entries, _ in
            total += entries.count
            try bytes([total]) { try archive.write($0) }
        }
        try archive.end()
        try "csr".utf8.map { $0 }.withUnsafeBytes {
            try archive.add("format", NPYHeader(descr: "|S3", shape: []), $0)
        }
        try [Int64(rowCount), Int64(width)].withUnsafeBytes {
            try archive.add("shape", NPYHeader(descr: "<i8", shape: [2]), $0)
        }
        try archive.begin("data", NPYHeader(descr: "<f4", shape: [count]))
        try forEachOutputRow(sae.hook) { entries, features in
            try features.values[entries].withUnsafeBytes { try archive.write($0) }
        }
        try archive.end()
        try writeMetadata(sae, to: archive)
    }

    private func writeMetadata(_ sae: ChosenSAE, to archive: NPZWriter) throws {
        let padding = Array(repeating: Int32(0), count: plan.rows - summary.tokens.count)
        let metadata = FeatureMetadata(
            author: author.author, documentCount: author.documents.count, layer: sae.hook.layer,
            tokensPerDocument: summary.tokens.map(Int32.init) + padding,
            saeName: sae.id.description)
        try metadata.pickle.withUnsafeBytes {
            try archive.add("metadata", FeatureMetadata.header, $0)
        }
        try archive.finish()
    }

    // MARK: Reading the journal

    /// Calls `body` once for each of the `plan.rows` rows of a metric array: with the document, or with nil if the
    /// author has fewer documents.
    private func forEachDocument(_ body: (DocumentRecord?) throws -> Void) throws {
        for batch in journal.batches.indices {
            for document in try journal.documents(of: batch) { try body(document) }
        }
        for _ in author.documents.count..<plan.rows { try body(nil) }
    }

    /// Calls `body` once for each position of each of the `plan.rows` documents, with the range of the position's
    /// entries. The range is empty at padding.
    private func forEachOutputRow(
        _ hook: HookPoint, _ body: (_ entries: Range<Int>, SparseRows) throws -> Void
    ) throws {
        var features = SparseRows()
        var (batch, row) = (0, 0)
        for document in 0..<plan.rows {
            // Checks the stop flag for each document. Writing an array takes seconds, which a scheduler may not wait
            // after SIGTERM.
            try stop.check()
            let count = document < summary.tokens.count ? summary.tokens[document] : 0
            // A batch ends with a document. So the next batch is needed only when all rows of this one are used.
            while count > 0, row == features.rowCount {
                features = try journal.features(hook, of: batch)
                (batch, row) = (batch + 1, 0)
            }
            for _ in 0..<count {
                try body(features.entries(of: row), features)
                row += 1
            }
            for _ in count..<plan.columns { try body(0..<0, features) }
        }
    }

    private var naming: OutputNaming { plan.naming }
}
