// Inspects activations, metrics and other arrays.

import ArrayFiles
import ByteJSON
import Files
import FoundationEssentials
import Hooks
import RunFiles

extension Inspection {
    // MARK: Activations

    mutating func inspectActivations(_ path: String, _ options: InspectionOptions) throws {
        let file = try ActivationsFile(path: path)
        let output = OutputName(path: path)
        let elements = file.documents * file.positions * file.features
        // Without metadata, all rows count as tokens. If the array has no elements, no rows count, because its shape
        // can claim any number of them.
        let lengths =
            file.metadata?.tokensPerDocument.map(Int.init)
            ?? Array(repeating: file.positions, count: elements > 0 ? file.documents : 0)
        guard lengths.allSatisfy({ (0...file.positions).contains($0) }) else {
            throw ResultsError.badFile(
                path: path,
                reason: "its metadata has documents of more than \(file.positions) tokens")
        }
        let counts = try FeatureCounts(file, lengths: lengths)
        let tokens = lengths.reduce(0, +)
        let (least, most) = counts.range
        let isBinary = least == 1 && most == 1 && counts.notFinite == 0
        let l0 = Distribution(occurrences: counts.tokensByL0)
        let shape = [file.documents, file.positions, file.features]
        let stored =
            file.isSparse
            ? "sparse: CSR (\(file.documents * file.positions), \(file.features)), row = document · \(file.positions) + position"
            : "dense: float32 (\(shape.map(String.init).joined(separator: ", ")))"
        lines.append("\(path): features that fire, \(stored); \(byteCount(fileSize(path)))")
        var fields: [(String, String)] = []
        if let metadata = file.metadata {
            fields += [
                ("author", metadata.author),
                ("SAE", metadata.saeName),
                (
                    "hook",
                    output?.site.map { "\(HookPoint(layer: metadata.layer, site: $0))" }
                        ?? "layer \(metadata.layer)"
                ),
                (
                    "documents",
                    "\(metadata.documentCount) with \(tokens) tokens; the array has space for \(file.documents)"
                ),
            ]
        } else {
            fields.append(("metadata", "none: all rows count as tokens"))
        }
        fields += [
            (
                "values",
                counts.entries == 0
                    ? "nothing fires"
                    : (isBinary ? "ones" : "activations from \(least) to \(most)")
                        + (counts.notFinite > 0 ? "; \(counts.notFinite) are not finite" : "")
            ),
            (
                "density",
                "\(counts.entries) of \(elements) elements (\(Inspection.percent(counts.entries, of: elements))), \(Inspection.percent(counts.entries, of: tokens * file.features)) without padding"
            ),
            ("L0", Inspection.words(l0, 1)),
            ("alive", "\(counts.alive) of \(file.features) features fire at least once"),
        ]
        add(fields)
        let top = Inspection.top(counts, options.top)
        addTable(
            "features that fire most",
            [["feature", "tokens", "share", "documents"]]
                + top.map {
                    [
                        "\($0)", "\(counts.tokens[$0])",
                        Inspection.percent(Int(counts.tokens[$0]), of: tokens),
                        "\(counts.documents[$0])",
                    ]
                })
        json = [
            "kind": .string(file.isSparse ? "sparse activations" : "dense activations"),
            "bytes": .integer(fileSize(path)),
            "dtype": "float32",
            "shape": .array(shape.map(JSONValue.integer)),
            "values": .string(isBinary ? "binary" : "raw"),
            "minimum": counts.entries > 0 ? .finite(Double(least)) : .null,
            "maximum": counts.entries > 0 ? .finite(Double(most)) : .null,
            "nonzero": .integer(counts.entries),
            "density": .number(Double(counts.entries) / Double(max(elements, 1))),
            "tokens": .integer(tokens),
            "l0": .object(l0.json(places: 4)),
            "alive": .integer(counts.alive),
            "top_features": .array(
                top.map {
                    .object([
                        "feature": .integer($0), "tokens": .integer(Int(counts.tokens[$0])),
                        "documents": .integer(Int(counts.documents[$0])),
                    ])
                }),
        ]
        if let metadata = file.metadata {
            json["metadata"] = .object([
                "author": .string(metadata.author),
                "docs_count": .integer(metadata.documentCount), "layer": .integer(metadata.layer),
                "tokens_per_doc": .array(
                    metadata.tokensPerDocument.map { .integer(Int($0)) }),
                "sae_name": .string(metadata.saeName),
            ])
        }
        if let document = options.document {
            try addDocument(document, of: file, lengths, output, options)
        }
    }

    static func top(_ counts: FeatureCounts, _ limit: Int) -> [Int] {
        Array(
            counts.tokens.indices.filter { counts.tokens[$0] > 0 }
                .sorted { (counts.tokens[$1], $0) < (counts.tokens[$0], $1) }.prefix(max(0, limit)))
    }

    /// Adds the tokens of a document. For each token, adds the features that are strongest at the token.
    mutating func addDocument(
        _ document: Int, of file: ActivationsFile, _ lengths: [Int], _ output: OutputName?,
        _ options: InspectionOptions
    ) throws {
        try Inspection.check(document, of: lengths.count)
        let start = document * file.positions
        let length = lengths[document]
        var fires = [[(feature: Int, value: Float)]](repeating: [], count: length)
        var totals: [Int: (count: Int, value: Float)] = [:]
        try file.forEachEntry { row, feature, value in
            guard row >= start, row < start + length else { return }
            fires[row - start].append((feature, value))
            totals[feature, default: (0, 0)].count += 1
            totals[feature]!.value = max(totals[feature]!.value, value)
        }
        // If activations are equal, as in files of ones, the feature that fires at more tokens of the document is
        // stronger.
        func isStronger(_ a: (feature: Int, value: Float), _ b: (feature: Int, value: Float))
            -> Bool
        {
            if a.value != b.value { return a.value > b.value }
            let (first, second) = (totals[a.feature]!.count, totals[b.feature]!.count)
            return first != second ? first > second : a.feature < b.feature
        }
        let pieces = output.flatMap { output -> [String]? in
            guard let all = try? AuthorFiles.tokens(output.sibling(.tokens, of: file.path)),
                document < all.count,
                all[document].count >= length
            else { return nil }
            return Array(all[document].prefix(length))
        }
        func name(_ entry: (feature: Int, value: Float)) -> String {
            entry.value == 1
                ? "\(entry.feature)" : "\(entry.feature) (\(decimals(Double(entry.value), 2)))"
        }
        func tokens(_ feature: Int) -> String { counted(totals[feature]!.count, "token") }
        let strongest = totals.map { (feature: $0.key, value: $0.value.value) }
            .sorted(by: isStronger).prefix(options.top)
        lines += [
            "",
            "document \(document), \(length) tokens; strongest features: "
                + strongest.map { "\(name($0)) at \(tokens($0.feature))" }.joined(separator: ", "),
        ]
        lines += textTable(
            [["position", "token", "on", "strongest features"]]
                + fires.indices.map { position in
                    let own = fires[position].sorted(by: isStronger)
                    let shown = own.prefix(options.top).map(name).joined(separator: " ")
                    return [
                        "\(position)", pieces.map { $0[position] } ?? "?",
                        "\(own.count)", shown + (own.count > options.top ? " …" : ""),
                    ]
                })
        if pieces == nil {
            lines.append("  (no tokens: the folder has no matching tokens file of this author)")
        }
        json["document"] = .object([
            "document": .integer(document), "tokens": .integer(length),
            "strongest": .array(
                strongest.map {
                    .object([
                        "feature": .integer($0.feature), "value": .finite(Double($0.value)),
                        "tokens": .integer(totals[$0.feature]!.count),
                    ])
                }),
            "positions": .array(
                fires.indices.map { position in
                    .object([
                        "token": pieces.map { .string($0[position]) } ?? .null,
                        "features": .array(
                            fires[position].sorted(by: isStronger).map {
                                .array([.integer($0.feature), .finite(Double($0.value))])
                            }),
                    ])
                }),
        ])
    }

    static func check(_ document: Int, of count: Int) throws {
        guard (0..<count).contains(document) else {
            throw ResultsError.absent(
                what: "document \(document)",
                present: [count > 0 ? "0 to \(count - 1)" : "none, because there are no documents"],
                flag: "--document")
        }
    }

    // MARK: Arrays

    mutating func inspectArrays(_ reader: NPZReader, _ options: InspectionOptions) throws {
        let path = reader.file.path
        let names = reader.names.sorted()
        if let array = options.array, !names.contains(array) {
            throw ResultsError.absent(what: "array \(array)", present: names, flag: "--array")
        }
        lines.append("\(path): \(names.count) arrays, \(byteCount(fileSize(path)))")
        var (rows, arrays) = ([["array", "dtype", "shape", "bytes", "packed"]], [JSONValue]())
        var statistics: [(String, ArrayStatistics)] = []
        var others: [String] = []
        for name in names {
            do {
                let scan = try reader.scan(name)
                let packed = try reader.packedSize(of: name)
                rows.append([
                    name, scan.header.descr,
                    "(\(scan.header.shape.map(String.init).joined(separator: ", ")))",
                    "\(scan.size)", "\(packed)",
                ])
                var entry = Inspection.entry(name, scan.header, scan.size)
                entry["packed_bytes"] = .integer(packed)
                if options.array ?? name == name {
                    if scan.elementSize != nil {
                        let found = try ArrayStatistics(scan)
                        statistics.append((name, found))
                        entry["statistics"] = .object(found.json)
                    } else {
                        others.append(
                            "\(name): no statistics for dtype '\(scan.header.descr)'")
                    }
                }
                arrays.append(.object(entry))
            } catch let error as NPZError where names.count > 1 && options.array == nil {
                others.append("\(error)")
                arrays.append(.object(["name": .string(name), "problem": .string("\(error)")]))
            }
        }
        addTable("arrays", rows)
        addStatistics(statistics)
        if !others.isEmpty { lines += [""] + others }
        json = ["kind": "npz", "bytes": .integer(fileSize(path)), "arrays": .array(arrays)]
    }

    mutating func addStatistics(_ statistics: [(String, ArrayStatistics)]) {
        addTable(
            "numbers",
            [["array", "elements", "zero", "not finite", "least", "mean", "largest"]]
                + statistics.map { [$0.0] + $0.1.cells })
    }

    static func entry(_ name: String, _ header: NPYHeader, _ size: Int) -> JSONObject {
        [
            "name": .string(name), "dtype": .string(header.descr),
            "shape": .array(header.shape.map(JSONValue.integer)),
            "fortran_order": .bool(header.isFortranOrder), "bytes": .integer(size),
        ]
    }

    mutating func inspectArray(_ path: String, _ options: InspectionOptions) throws {
        let scan = try ArrayScan(npy: path)
        let shape = scan.header.shape
        let output = OutputName(path: path)
        if let output, let kind = output.kind, shape.count == 2, scan.header.descr == "<f2" {
            return try inspectMetric(path, kind, output, shape, options)
        }
        lines.append(
            "\(path): \(scan.header.descr) (\(shape.map(String.init).joined(separator: ", ")))\(scan.header.isFortranOrder ? " in Fortran order" : ""), \(byteCount(fileSize(path)))"
        )
        json = Inspection.entry("", scan.header, scan.size)
        json["kind"] = "npy"
        guard scan.elementSize != nil else {
            lines.append("  no statistics for dtype '\(scan.header.descr)'")
            return
        }
        let statistics = try ArrayStatistics(scan)
        addStatistics([("", statistics)])
        json["statistics"] = .object(statistics.json)
    }

    mutating func inspectMetric(
        _ path: String, _ kind: OutputNaming.Kind, _ output: OutputName, _ shape: [Int],
        _ options: InspectionOptions
    ) throws {
        let values = try AuthorFiles.metric(path, rows: shape[0], columns: shape[1])
        // An array without elements can claim any number of rows, so none of its rows count.
        let rows = values.isEmpty ? 0 : shape[0]
        let folder = parentFolder(of: path)
        let pieces = try? AuthorFiles.tokens(output.sibling(.tokens, of: path))
        let known = Inspection.lengths(of: output, in: folder)
        // The lengths in run.json are exact. Without them, zeros at the end of a row count as padding, although the
        // value of a token can be 0 too.
        let lengths = (0..<rows).map { row -> Int in
            if let known { return row < known.count ? min(known[row], shape[1]) : 0 }
            let own = values[row * shape[1]..<(row + 1) * shape[1]]
            return (own.lastIndex { $0 != 0 }.map { $0 - own.startIndex } ?? -1) + 1
        }
        let real = lengths.enumerated().flatMap { row, length in
            values[row * shape[1]..<row * shape[1] + length]
        }
        let distribution = Distribution(real)
        let what =
            kind == .entropy
            ? "entropy of the prediction made at each token" : "cross-entropy of each token"
        lines.append(
            "\(path): \(what), nats; float16 (\(shape[0]), \(shape[1])), \(byteCount(fileSize(path)))"
        )
        add([
            ("author", output.author),
            (
                "tokens",
                "\(real.count) in \(lengths.count { $0 > 0 }) documents\(known == nil ? " (counted up to the last nonzero value: no run.json in this folder describes this file)" : "")"
            ),
            ("nats", Inspection.words(distribution, 3)),
        ])
        json = Inspection.entry("", NPYHeader(descr: "<f2", shape: shape), fileSize(path))
        json["kind"] = .string(kind.rawValue)
        json["tokens"] = .integer(real.count)
        json["nats"] = .object(distribution.json(places: 6))
        guard let document = options.document else { return }
        try Inspection.check(document, of: rows)
        let own = values[document * shape[1]..<document * shape[1] + lengths[document]]
        addTable(
            "document \(document)",
            [["position", "token", "nats"]]
                + own.enumerated().map { position, value in
                    [
                        "\(position)",
                        pieces.flatMap { Inspection.piece($0, document, position) } ?? "?",
                        decimals(Double(value), 3),
                    ]
                })
        json["document"] = .object([
            "document": .integer(document), "nats": .array(own.map { .finite(Double($0)) }),
            "tokens": .array(
                (0..<own.count).map { position in
                    pieces.flatMap { Inspection.piece($0, document, position) }
                        .map(JSONValue.string) ?? .null
                }),
        ])
    }

    /// Returns the number of tokens of each document of an author, from run.json in `folder`. Nil if run.json is
    /// missing or does not describe the author's files.
    static func lengths(of output: OutputName, in folder: String) -> [Int]? {
        let folder = folder.isEmpty ? "." : folder
        guard
            let label = try? FinishedRun.label(ofFilesBeginningWith: output.start, in: folder),
            let run = try? FinishedRun(folder, model: label)
        else { return nil }
        return run.authors.first { $0.nameInFiles.utf8.elementsEqual(output.author.utf8) }?
            .tokensPerRow
    }

    static func piece(_ pieces: [[String]], _ document: Int, _ position: Int) -> String? {
        guard document < pieces.count, position < pieces[document].count else { return nil }
        return pieces[document][position]
    }

    mutating func inspectTensors(_ path: String, _ options: InspectionOptions) throws {
        let file = try SafetensorsFile(path: path)
        let entries = file.entries
        let elements = entries.reduce(0) { $0 + $1.shape.reduce(1, *) }
        lines.append(
            "\(path): \(entries.count) tensors of \(elements) numbers, \(byteCount(fileSize(path)))"
        )
        addTable(
            "tensors",
            [["tensor", "dtype", "shape", "bytes"]]
                + entries.map {
                    [
                        $0.name, $0.dtype, "(\($0.shape.map(String.init).joined(separator: ", ")))",
                        "\($0.end - $0.begin)",
                    ]
                })
        json = [
            "kind": "safetensors", "bytes": .integer(fileSize(path)),
            "tensors": .array(
                entries.map {
                    .object([
                        "name": .string($0.name), "dtype": .string($0.dtype),
                        "shape": .array($0.shape.map(JSONValue.integer)),
                        "bytes": .integer($0.end - $0.begin),
                    ])
                }),
        ]
        guard let name = options.array else { return }
        guard entries.contains(where: { $0.name == name }) else {
            throw ResultsError.absent(
                what: "tensor \(name)", present: entries.map(\.name), flag: "--array")
        }
        guard let tensor = try? file.tensor(name) else {
            lines += ["", "\(name): no statistics: only F32, BF16 and F16 are supported"]
            return
        }
        let statistics = ArrayStatistics(tensor)
        addStatistics([(name, statistics)])
        json["statistics"] = .object(statistics.json)
    }
}
