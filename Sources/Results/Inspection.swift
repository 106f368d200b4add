// The `inspect` command: describes a file or a run, as text and as JSON.

import ArrayFiles
import ByteJSON
import Files
import FoundationEssentials
import RunFiles

/// The options of an inspection.
package struct InspectionOptions: Sendable {
    /// The largest number of features or tokens in a list.
    package var top = 10
    /// Index of the document to show, from 0. Nil if no document is to be shown.
    package var document: Int?
    /// Name of the array or tensor whose statistics are computed. If it is nil, statistics are computed for all
    /// arrays of a `.npz` file, but for no tensor of a `.safetensors` file.
    package var array: String?
    /// Label of the model to show, if a folder has results of several models.
    package var model: String?

    /// Makes the default options.
    package init() {}
}

/// The result of an inspection, as text and as JSON.
package struct Inspection {
    /// The text, line by line, for people.
    package internal(set) var lines: [String] = []
    /// The same facts as JSON, for scripts.
    package internal(set) var json: JSONObject = [:]

    /// Inspects the file or folder at `path`. Dense activations are never loaded whole. Throws `ResultsError`, and
    /// the errors of the file's reader.
    package init(_ path: String, _ options: InspectionOptions = InspectionOptions()) throws {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        if isDirectory(path) {
            guard fileExists(path + "/run.json") else {
                throw ResultsError.noRun(directory: path)
            }
            try inspectRun(path, options)
        } else if name == "run.json" {
            try inspectRun(parentFolder(of: path).isEmpty ? "." : parentFolder(of: path), options)
        } else if name.hasSuffix(".npz") {
            let reader = try NPZReader(path: path)
            try inspectArchive(reader, path, isOurs: OutputName(name) != nil, options)
        } else if name.hasSuffix(".npy") {
            try inspectArray(path, options)
        } else if name.hasSuffix(".safetensors") {
            try inspectTensors(path, options)
        } else if name.hasSuffix(".json"), let output = OutputName(name) {
            try inspectText(path, output, options)
        } else {
            // `MappedFile` throws if the file does not exist.
            throw ResultsError.otherFile(path: path, kind: try MappedFile(path: path).kind?.name)
        }
        if json["path"] == nil { json["path"] = .string(path) }
    }

    /// Inspects a `.npz` file. `isOurs` tells whether its name is that of a run's file. A file of another program may
    /// have arrays with the same names but other content. If such a file cannot be read as activations, its arrays
    /// are listed.
    mutating func inspectArchive(
        _ reader: NPZReader, _ path: String, isOurs: Bool, _ options: InspectionOptions
    ) throws {
        if ActivationsFile.recognizes(reader.names), options.array == nil {
            do {
                return try inspectActivations(path, options)
            } catch let error where !isOurs && (error is ResultsError || error is NPZError) {
                (lines, json) = ([], [:])
            }
        }
        try inspectArrays(reader, options)
    }

    // MARK: Lines

    /// Adds one line for each field: "  name   value". The values are aligned.
    mutating func add(_ fields: [(String, String)]) {
        let width = fields.map { $0.0.count }.max() ?? 0
        for (name, value) in fields {
            lines.append(
                "  " + name + String(repeating: " ", count: width + 2 - name.count) + value)
        }
    }

    mutating func addTable(_ title: String, _ rows: [[String]]) {
        guard rows.count > 1 else { return }
        lines += ["", title] + textTable(rows)
    }

    static func percent(_ part: Int, of whole: Int) -> String {
        "\(decimals(100 * Double(part) / Double(max(whole, 1)), 2)) %"
    }

    static func words(_ distribution: Distribution, _ places: Int) -> String {
        let percentiles = zip(Distribution.percents, distribution.percentiles)
            .map { "p\($0) \(decimals($1, places))" }
        return
            (["mean \(decimals(distribution.mean, 2))"] + percentiles
            + ["max \(decimals(distribution.maximum, places))"]).joined(separator: ", ")
    }

    // MARK: A run

    mutating func inspectRun(_ directory: String, _ options: InspectionOptions) throws {
        guard options.document == nil, options.array == nil else {
            throw ResultsOptionError(
                options.document == nil ? "--array" : "--document",
                "applies only to a single file; give a file in \(directory) instead of the folder")
        }
        let run = try FinishedRun(directory, model: options.model)
        let tokens = run.authors.reduce(0) { $0 + $1.tokenCount }
        let documents = run.authors.reduce(0) { $0 + $1.tokensPerRow.count }
        func text(_ key: RunKey) -> String { run.entry[key]?.string ?? "" }
        lines.append("\(directory): results of \(run.label)")
        add([
            (
                "run",
                "\(text(.outcome)), \(text(.finished).isEmpty ? "begun \(text(.started))" : "\(text(.started)) to \(text(.finished))"), sae-extract \(text(.saeExtract))"
            ),
            (
                "on",
                "\(text(.device)), \(text(.dtype)), \((run.entry[.kernels]?.array ?? []).compactMap(\.string).joined(separator: ", "))"
            ),
            ("arrays", "documents \(run.rows), tokens \(run.columns)"),
            (
                "in all",
                [
                    counted(run.authors.count, "author"), counted(documents, "document"),
                    counted(tokens, "token"),
                ].joined(separator: ", ")
            ),
            (
                "features",
                "\(run.hasRawValues ? "the activation where it is" : "1 where the activation is") above \(run.threshold)"
            ),
        ])
        for note in run.notes { lines.append("  note: \(note)") }
        addTable(
            "authors",
            [["author", "documents", "tokens", "truncated", "cross-entropy", "entropy"]]
                + run.authors.map {
                    [
                        $0.name, "\($0.tokensPerRow.count)", "\($0.tokenCount)",
                        "\($0.truncatedRows.count)", decimals($0.meanCrossEntropy, 3),
                        decimals($0.meanEntropy, 3),
                    ]
                })
        addTable(
            "SAEs",
            [["hook", "SAE", "features", "L0", "files"]]
                + run.saes.map {
                    [
                        "\($0.hook)", $0.name, "\($0.width)", decimals($0.meanL0, 2),
                        [$0.hasDense ? "dense" : nil, $0.hasSparse ? "sparse" : nil]
                            .compactMap { $0 }.joined(separator: ", "),
                    ]
                })
        json = [
            "kind": "run", "path": .string(directory), "model": .string(run.label),
            "outcome": run.entry[.outcome] ?? .null,
            "documents": .integer(documents), "tokens": .integer(tokens),
            "shape": .array([.integer(run.rows), .integer(run.columns)]),
            "notes": .array(run.notes.map(JSONValue.string)),
            "authors_not_complete": .array(run.incompleteAuthors.map(JSONValue.string)),
            "authors": .array(
                run.authors.map {
                    .object([
                        "author": .string($0.name), "documents": .integer($0.tokensPerRow.count),
                        "tokens": .integer($0.tokenCount),
                        "truncated": .integer($0.truncatedRows.count),
                        "mean_cross_entropy": .number($0.meanCrossEntropy),
                        "mean_entropy": .number($0.meanEntropy),
                    ])
                }),
            "saes": .array(
                run.saes.map {
                    .object([
                        "hook": .string("\($0.hook)"), "sae_name": .string($0.name),
                        "d_sae": .integer($0.width), "mean_l0": .number($0.meanL0),
                    ])
                }),
        ]
    }

    // MARK: Tokens and texts

    mutating func inspectText(
        _ path: String, _ output: OutputName, _ options: InspectionOptions
    ) throws {
        if output.kind == .tokens {
            let known = Inspection.lengths(of: output, in: parentFolder(of: path))
            let documents = try AuthorFiles.tokens(path).enumerated().map { row, pieces in
                // Prefers lengths from run.json, because the text of a document may itself contain "<pad>".
                let length =
                    known.map { row < $0.count ? $0[row] : 0 }
                    ?? (pieces.lastIndex { $0 != "<pad>" } ?? -1) + 1
                return Array(pieces.prefix(length))
            }
            var counts: [ExactString: Int] = [:]
            for piece in documents.joined() { counts[ExactString(piece), default: 0] += 1 }
            let total = documents.reduce(0) { $0 + $1.count }
            let top = counts.sorted { ($1.value, $0.key.string) < ($0.value, $1.key.string) }
                .prefix(options.top)
            lines.append(
                "\(path): tokens of \(documents.count) documents, \(byteCount(fileSize(path)))")
            add([
                ("author", output.author),
                ("tokens", "\(total), \(counts.count) different"),
                (
                    "a document",
                    Inspection.words(Distribution(documents.map { Float($0.count) }), 0)
                ),
            ])
            addTable(
                "most frequent",
                [["token", "times"]]
                    + top.map { [$0.key.string, "\($0.value)"] })
            json = [
                "kind": "tokens", "documents": .integer(documents.count), "tokens": .integer(total),
                "different": .integer(counts.count),
                "top_tokens": .array(
                    top.map {
                        .object(["token": .string($0.key.string), "times": .integer($0.value)])
                    }),
            ]
            guard let document = options.document else { return }
            try Inspection.check(document, of: documents.count)
            lines += ["", documents[document].joined(separator: " ")]
            json["document"] = .array(documents[document].map(JSONValue.string))
        } else {
            let texts = try AuthorFiles.texts(path)
            lines.append("\(path): texts of \(texts.count) documents, \(byteCount(fileSize(path)))")
            let lengths = Distribution(texts.map { Float($0.unicodeScalars.count) })
            add([("author", output.author), ("characters", Inspection.words(lengths, 0))])
            json = [
                "kind": "texts", "documents": .integer(texts.count),
                "characters": .object(lengths.json(places: 2)),
            ]
            guard let document = options.document else { return }
            try Inspection.check(document, of: texts.count)
            lines.append("")
            lines += texts[document].unicodeScalars.split(
                separator: "\n", omittingEmptySubsequences: false
            ).map { String($0) }
            json["document"] = .string(texts[document])
        }
    }
}

/// The error for a flag of `inspect` that does not apply to the given path.
package struct ResultsOptionError: Error, CustomStringConvertible {
    /// The flag, `--document`.
    package let flag: String
    /// What is wrong, and which value to give instead.
    package let message: String

    init(_ flag: String, _ message: String) { (self.flag, self.message) = (flag, message) }

    /// The flag and the message: "--document: …".
    package var description: String { "\(flag): \(message)" }
}
