// The `verify` command: checks every file of a run against run.json and against the file format.

import ArrayFiles
import ByteJSON
import Files
import FoundationEssentials
import Hooks
import RunFiles
import Synchronization
import Threading

/// The result of checking one file.
package struct FileFinding: Sendable {
    /// The file's name in the folder.
    package let name: String
    /// Size and content of the file; empty if `problem` is not nil.
    package let description: String
    /// The problem of the file; nil if the file is valid.
    package let problem: String?

    /// Whether the file is valid.
    package var isGood: Bool { problem == nil }
}

/// The check of a whole run.
package struct Verification {
    private let run: FinishedRun

    /// Prepares the check of `run`. Reads no file yet.
    package init(_ run: FinishedRun) {
        self.run = run
    }

    /// Checks every file, author by author, and passes each finding to `report` in order. Returns whether everything
    /// is valid.
    ///
    /// A file must have the size and CRC-32 that `run.json` records, if it records them. The content must be valid
    /// too:
    /// - header, shape, dtype, metadata, and the CRC of each member of a `.npz` file;
    /// - padding is zero; values are ones, or above the threshold in a raw run;
    /// - a sparse file has the same entries as the dense file;
    /// - metrics are finite, not negative, and have the mean that `run.json` records;
    /// - the number of tokens and texts is the recorded number.
    ///
    /// If all files are valid, each `mean_l0` over all authors in `run.json` must agree with them.
    package func check(_ report: (FileFinding) throws -> Void) rethrows -> Bool {
        var isGood = true
        let counts = Mutex([HookPoint: Int]())
        let threads = ThreadPool.ofAvailableCores()
        for author in run.authors {
            let checks = checks(of: author) { hook, count in
                counts.withLock { $0[hook, default: 0] += count }
            }
            let findings = Mutex([[FileFinding]](repeating: [], count: checks.count))
            threads.forEach(checks.count) { index, _ in
                let found = checks[index]()
                findings.withLock { $0[index] = found }
            }
            for finding in findings.withLock({ $0 }).joined() {
                isGood = isGood && finding.isGood
                try report(finding)
            }
        }
        // If all files are valid, mean_l0 in run.json must agree with them.
        let tokens = run.authors.reduce(0) { $0 + $1.tokenCount }
        for sae in run.saes where isGood && sae.isOfAllAuthors && sae.countedTokens == tokens {
            let found = Double(counts.withLock { $0[sae.hook] ?? 0 }) / Double(max(tokens, 1))
            if abs(found - sae.meanL0) > 1e-9 * max(1, found) {
                isGood = false
                try report(
                    FileFinding(
                        name: "run.json", description: "",
                        problem:
                            "mean_l0 of \(sae.hook) is \(sae.meanL0), but the files have \(found); run.json was changed: repeat the run's command to write the file again"
                    ))
            }
        }
        return isGood
    }

    /// The names of the files for which `run.json` has no checksum.
    package var namesWithoutSeal: [String] {
        run.authors.flatMap { author in names(of: author).filter { author.files[$0] == nil } }
    }

    /// Returns the names of the files in the folder that have this model's label but are not listed in `run.json`.
    /// Throws `FileError`.
    package func strangers() throws -> [String] {
        let known = Set(run.authors.flatMap { names(of: $0) }.map(ExactString.init))
        return try directoryContents(run.directory)
            .filter { $0.hasPrefix(run.naming.start) && !known.contains(ExactString($0)) }.sorted()
    }

    private func names(of author: FinishedRun.Author) -> [String] {
        OutputNaming.Kind.allCases.map { run.naming.file($0, author: author.name) }
            + run.saes.flatMap { sae in
                [(false, sae.hasDense), (true, sae.hasSparse)].filter(\.1).map {
                    run.naming.activations(sae.hook, author: author.name, isSparse: $0.0)
                }
            }
    }

    /// Returns the checks of an author's files, in order. The dense and the sparse file of a hook have one check
    /// together, which compares them.
    private func checks(
        of author: FinishedRun.Author, _ counted: @escaping @Sendable (HookPoint, Int) -> Void
    ) -> [@Sendable () -> [FileFinding]] {
        let run = run
        var checks: [@Sendable () -> [FileFinding]] = []
        for kind in OutputNaming.Kind.allCases {
            checks.append {
                [
                    finding(run, author, run.naming.file(kind, author: author.name)) {
                        try describe(run, author, kind)
                    }
                ]
            }
        }
        for sae in run.saes {
            checks.append {
                var first: Entries?
                var isCounted = false
                return [(false, sae.hasDense), (true, sae.hasSparse)].filter(\.1).map { kind in
                    let name = run.naming.activations(
                        sae.hook, author: author.name, isSparse: kind.0)
                    return finding(run, author, name) {
                        let file = try run.activations("\(run.directory)/\(name)", sae)
                        let (text, count) = try describe(run, author, sae, file, &first)
                        if !isCounted { counted(sae.hook, count) }
                        isCounted = true
                        return text
                    }
                }
            }
        }
        return checks
    }
}

/// Checks the size and CRC-32 of the file called `name`. Calls `describe` to check its content.
private func finding(
    _ run: FinishedRun, _ author: FinishedRun.Author, _ name: String,
    _ describe: () throws -> String
) -> FileFinding {
    let path = "\(run.directory)/\(name)"
    do {
        guard let found = try FileSeal(path: path) else {
            return FileFinding(
                name: name, description: "",
                problem: "is missing; repeat the run's command to make it again")
        }
        let seal = author.files[name]
        let change = seal.flatMap { seal -> String? in
            if found == seal { return nil }
            return found.size == seal.size
                ? "has CRC-32 \(hexadecimal(found.crc32)), but the run wrote \(hexadecimal(seal.crc32))"
                : "has \(found.size) bytes, but the run wrote \(seal.size)"
        }
        // Checks the content even if the checksum differs, because an error in the content tells how the file has
        // changed.
        let content: Result<String, any Error> = Result { try describe() }
        if case .failure(let error as UnexpectedFileError) = content, case .pointer = error.kind {
            throw error  // The file is only a pointer to the content (Git LFS, git-annex).
        }
        if let change {
            var reason = change
            if case .failure(let error) = content {
                // Removes the advice from the content's error, because `badFile` adds the advice.
                let whole = withoutPath(error, path)
                let isOther = error is UnexpectedFileError
                let end =
                    whole.firstRange(of: isOther ? "; " : "; the file is")?.lowerBound
                    ?? whole.endIndex
                reason += "; \(whole[..<end])"
            }
            throw ResultsError.badFile(path: path, reason: reason)
        }
        let note = seal == nil ? ", no checksum on record" : ""
        return FileFinding(
            name: name, description: "\(byteCount(found.size))\(note), \(try content.get())",
            problem: nil)
    } catch {
        return FileFinding(
            name: name, description: "", problem: withoutPath(ResultsError.ofResult(error), path))
    }
}

/// Returns the message of `error` without the path at its beginning. The output line already begins with the file's
/// name.
private func withoutPath(_ error: any Error, _ path: String) -> String {
    let message = "\(error)"
    return message.hasPrefix("\(path): ") ? String(message.dropFirst(path.count + 2)) : message
}

private func hexadecimal(_ crc: UInt32) -> String {
    Files.hexadecimal(withUnsafeBytes(of: crc.bigEndian, Array.init))
}

// MARK: Metrics, tokens, texts

private func describe(
    _ run: FinishedRun, _ author: FinishedRun.Author, _ kind: OutputNaming.Kind
) throws -> String {
    let path = run.path(kind, of: author)
    func bad(_ reason: String) -> ResultsError { .badFile(path: path, reason: reason) }
    switch kind {
    case .crossEntropy, .entropy:
        let values = try AuthorFiles.metric(path, rows: run.rows, columns: run.columns)
        var sum = 0.0
        for document in 0..<run.rows {
            let length = document < author.tokensPerRow.count ? author.tokensPerRow[document] : 0
            for position in 0..<run.columns {
                let value = values[document * run.columns + position]
                if position >= length {
                    guard value == 0 else {
                        throw bad(
                            "document \(document), position \(position) is padding, but its value is \(value), expected 0"
                        )
                    }
                } else {
                    guard value.isFinite, value >= 0 else {
                        throw bad(
                            "document \(document), position \(position) is \(value), expected a finite value of at least 0"
                        )
                    }
                    sum += Double(value)
                }
            }
        }
        let mean = sum / Double(max(author.tokenCount, 1))
        let recorded = kind == .entropy ? author.meanEntropy : author.meanCrossEntropy
        guard abs(mean - recorded) <= 1e-9 * max(1, recorded) else {
            throw bad(
                "the mean of its values without padding is \(mean), but \(recorded) is recorded in run.json"
            )
        }
        return "float16 (\(run.rows), \(run.columns)), mean \(decimals(mean, 3)) nats"
    case .tokens:
        let documents = try AuthorFiles.tokens(path)
        guard documents.count == author.tokensPerRow.count else {
            throw bad("has \(documents.count) documents, expected \(author.tokensPerRow.count)")
        }
        for (document, pieces) in documents.enumerated() {
            guard pieces.count == run.columns else {
                throw bad(
                    "document \(document) has \(pieces.count) pieces, expected \(run.columns)")
            }
            guard pieces[author.tokensPerRow[document]...].allSatisfy({ $0 == "<pad>" }) else {
                throw bad(
                    "document \(document) has more than \(author.tokensPerRow[document]) tokens before its padding"
                )
            }
        }
        return "\(documents.count) documents, \(author.tokenCount) tokens"
    case .texts:
        let texts = try AuthorFiles.texts(path)
        guard texts.count == author.tokensPerRow.count else {
            throw bad("has \(texts.count) texts, expected \(author.tokensPerRow.count)")
        }
        return "\(texts.count) texts"
    }
}

// MARK: Activations

/// The entries of an activations file, in order: row, feature and value of each.
private struct Entries: Equatable {
    var rows: [Int32] = []
    var features: [Int32] = []
    var values: [Float] = []
}

/// Checks the activations file `file`. Returns its description and its number of entries.
///
/// If the run has dense and sparse files, the dense file is checked first, and its entries are stored in `first`.
/// Then the sparse file is checked. Throws if its entries differ from `first`.
private func describe(
    _ run: FinishedRun, _ author: FinishedRun.Author, _ sae: FinishedRun.TappedSAE,
    _ file: ActivationsFile, _ first: inout Entries?
) throws -> (text: String, count: Int) {
    func bad(_ reason: String) -> ResultsError { .badFile(path: file.path, reason: reason) }
    let lengths =
        author.tokensPerRow
        + Array(repeating: 0, count: run.rows - author.tokensPerRow.count)
    let expected = FeatureMetadata(
        author: author.name, documentCount: author.tokensPerRow.count, layer: sae.hook.layer,
        tokensPerDocument: lengths.map(Int32.init), saeName: sae.name)
    guard let metadata = file.metadata else { throw bad("has no metadata") }
    guard metadata == expected else {
        throw bad(
            "its metadata does not match run.json: \(difference(metadata, expected))"
        )
    }
    let (threshold, hasRawValues) = (Float(run.threshold), run.hasRawValues)
    let isCompared = sae.hasDense && sae.hasSparse
    var (entries, count) = (Entries(), 0)
    try file.forEachEntry { row, feature, value in
        let (document, position) = (row / run.columns, row % run.columns)
        guard position < lengths[document] else {
            throw bad(
                "feature \(feature) fires at document \(document), position \(position), which is padding"
            )
        }
        guard hasRawValues ? value > threshold && value.isFinite : value == 1 else {
            throw bad(
                "document \(document), position \(position), feature \(feature) is \(value), expected \(hasRawValues ? "more than \(threshold)" : "1 or 0")"
            )
        }
        count += 1
        guard isCompared else { return }
        if let other = first {
            let place = count - 1
            guard place < other.rows.count, other.rows[place] == Int32(row),
                other.features[place] == Int32(feature), other.values[place] == value
            else {
                throw bad(
                    "document \(document), position \(position), feature \(feature) differs from the dense file"
                )
            }
        } else {
            entries.rows.append(Int32(row))
            entries.features.append(Int32(feature))
            entries.values.append(value)
        }
    }
    let l0 = Double(count) / Double(max(author.tokenCount, 1))
    var text = file.isSparse ? "CSR" : "float32"
    text +=
        " (\(run.rows), \(run.columns), \(sae.width)), \(count) \(hasRawValues ? "activations" : "ones"), L0 \(decimals(l0, 2))"
    if isCompared, let other = first {
        guard other.rows.count == count else {
            throw bad("has \(count) entries, but the dense file has \(other.rows.count)")
        }
        text += ", equal to the dense file"
    } else if isCompared, !file.isSparse {
        first = entries
    }
    return (text, count)
}

private func difference(_ found: FeatureMetadata, _ expected: FeatureMetadata) -> String {
    if found.author != expected.author {
        return "author '\(found.author)', expected '\(expected.author)'"
    }
    if found.layer != expected.layer { return "layer \(found.layer), expected \(expected.layer)" }
    if found.saeName != expected.saeName {
        return "sae_name \(found.saeName), expected \(expected.saeName)"
    }
    if found.documentCount != expected.documentCount {
        return "docs_count \(found.documentCount), expected \(expected.documentCount)"
    }
    return "tokens_per_doc differ"
}
