// Reads an author's files: activations, metrics, tokens, texts.

import ArrayFiles
import ByteJSON
import Files
import FoundationEssentials
import RunFiles

/// An activations file, dense or sparse. Its entries are the nonzero elements: the features that fire at each token.
package struct ActivationsFile: Sendable {
    /// Path of the file.
    package let path: String
    /// Whether the file holds a CSR matrix.
    package let isSparse: Bool
    /// The number of documents. For a sparse file without metadata, 1.
    package let documents: Int
    /// The number of positions of each document. For a sparse file without metadata, the number of all rows.
    package let positions: Int
    /// The number of features of the SAE.
    package let features: Int
    /// The content of the file's member `metadata`. Nil if the file has no such member.
    package let metadata: FeatureMetadata?
    private let reader: NPZReader

    /// Returns whether `names` are the array names of an activations file, dense or sparse.
    static func recognizes(_ names: [String]) -> Bool {
        let names = Set(names)
        return names.contains("activations")
            || names.isSuperset(of: ["indices", "indptr", "format", "shape", "data"])
    }

    /// Reads the headers and the metadata of the file at `path`, but no entries. Throws `FileError`, `NPZError` or
    /// `ResultsError`.
    package init(path: String) throws {
        let reader = try NPZReader(path: path)
        (self.path, self.reader) = (path, reader)
        func bad(_ reason: String) -> ResultsError { .badFile(path: path, reason: reason) }
        if reader.names.contains("metadata") {
            // Limits the size of the metadata to 64 MB. One number for each document and a few names need far less.
            guard try reader.scan("metadata").size <= 64 << 20 else {
                throw bad("its metadata has more than 64 MB")
            }
            let (header, pickle) = try reader.array("metadata")
            guard header == FeatureMetadata.header else {
                throw bad("its metadata is \(header.descr) \(header.shape), expected an object")
            }
            do {
                metadata = try FeatureMetadata(pickle: pickle)
            } catch {
                throw bad("its metadata \(error)")
            }
        } else {
            metadata = nil
        }
        isSparse = !reader.names.contains("activations")
        if isSparse {
            guard
                Set(reader.names).isSuperset(of: ["indices", "indptr", "format", "shape", "data"])
            else {
                throw bad(
                    "has neither activations nor a CSR matrix (indices, indptr, format, shape, data)"
                )
            }
            let format = try reader.array("format").data
            guard format.filter({ $0 != 0 }) == Array("csr".utf8) else {
                throw bad(
                    "its matrix is '\(String(decoding: format, as: UTF8.self))', expected csr")
            }
            let shape = try ActivationsFile.integers(reader, "shape")
            guard shape.count == 2, shape.allSatisfy({ $0 >= 0 }) else {
                throw bad("its matrix has shape \(shape), expected two sizes")
            }
            features = shape[1]
            documents = metadata?.tokensPerDocument.count ?? 1
            guard documents > 0 ? shape[0] % documents == 0 : shape[0] == 0 else {
                throw bad(
                    "\(shape[0]) rows cannot be divided evenly among \(documents) documents")
            }
            positions = documents > 0 ? shape[0] / documents : 0
        } else {
            let scan = try reader.scan("activations")
            let header = scan.header
            guard header.shape.count == 3, !header.isFortranOrder, header.descr == "<f4" else {
                throw bad(
                    "activations are \(header.descr) \(header.shape)\(header.isFortranOrder ? " in Fortran order" : ""), expected <f4 (documents, tokens, features)"
                )
            }
            try scan.checkSize()
            (documents, positions, features) = (
                header.shape[0], header.shape[1], header.shape[2]
            )
            if let count = metadata?.tokensPerDocument.count, count != documents {
                throw bad("its metadata has \(count) documents, its array \(documents)")
            }
        }
        // Limits the shape. A small file can claim any shape, and readers allocate counters for each document and
        // feature.
        guard SizeLimits.allow(documents: documents, tokens: positions, features: features),
            documents * positions <= SizeLimits.rows
        else {
            throw bad(
                "\(documents) documents of \(positions) tokens and \(features) features are more than this program reads (limits: \(SizeLimits.words))"
            )
        }
    }

    /// Calls `body` with the row, the feature and the value of each entry. The row of a token is its document times
    /// `positions`, plus its position. Rows ascend, and features ascend within a row. Throws `NPZError` or
    /// `ResultsError` if the file is damaged, possibly after calls of `body`. Throws what `body` throws.
    package func forEachEntry(
        _ body: (_ row: Int, _ feature: Int, _ value: Float) throws -> Void
    ) throws {
        if isSparse {
            try forEachSparseEntry(body)
        } else {
            let features = features
            // Computes the row only when it changes. A division for each entry would double the time of the loop.
            var (row, start) = (0, 0)
            try reader.scan("activations").forEachNonzero { index, bits in
                if index - start >= features {
                    row = index / features
                    start = row * features
                }
                let value = Float(bitPattern: UInt32(truncatingIfNeeded: bits))
                // -0.0 has nonzero bits, but counts as zero.
                if value != 0 { try body(row, index - start, value) }
            }
        }
    }

    private func forEachSparseEntry(_ body: (Int, Int, Float) throws -> Void) throws {
        func bad(_ reason: String) -> ResultsError { .badFile(path: path, reason: reason) }
        // Checks the headers before it reads the data. A compressed array can claim any size, and reading it would
        // allocate that much memory.
        let (starts, count) = (
            try reader.scan("indptr"), try reader.scan("indices").header.shape.first ?? 0
        )
        let values = try reader.scan("data").header.shape
        guard starts.header.shape == [documents * positions + 1], values == [count],
            ["<i4", "<i8"].contains(starts.header.descr)
        else {
            throw bad(
                "indptr is \(starts.header.descr) \(starts.header.shape), expected <i4 or <i8 [\(documents * positions + 1)]; data has shape \(values), expected that of indices, [\(count)]"
            )
        }
        let ends = try rowEnds(starts, count: count)
        let indices = try ActivationsFile.integers(reader, "indices")
        let data = try reader.tensor("data").floats()
        guard indices.count == count, data.count == count else {
            throw bad("indices and data are not arrays of \(count) numbers")
        }
        var start = 0
        for (row, end) in ends {
            var before = -1
            for entry in start..<end {
                guard indices[entry] > before, indices[entry] < features else {
                    throw bad(
                        "indices of row \(row) do not ascend, or are not in 0 to \(features - 1)")
                }
                before = indices[entry]
                if data[entry] != 0 { try body(row, before, data[entry]) }
            }
            start = end
        }
    }

    /// Returns each row that has entries, with the end of its range in `indices`. Rows without entries are left out,
    /// so the result has at most `count` elements. Throws `ResultsError` unless `starts` (the array indptr) ascends
    /// from 0 to `count`.
    private func rowEnds(_ starts: ArrayScan, count: Int) throws -> [(row: Int, end: Int)] {
        func bad(_ reason: String) -> ResultsError { .badFile(path: path, reason: reason) }
        let isWide = starts.elementSize == 8
        var ends: [(row: Int, end: Int)] = []
        var (last, next) = (0, 0)
        try starts.forEachNonzero { place, bits in
            let end =
                isWide
                ? Int(Int64(bitPattern: bits)) : Int(Int32(truncatingIfNeeded: bits))
            // The scan skips zeros. So a place may be missing only while `last` is 0, at the front of the array.
            guard place > 0, end >= last, end <= count, place == next || last == 0 else {
                throw bad(
                    "indptr does not ascend from 0 to \(count) at row \(max(0, place - 1))")
            }
            if end > last { ends.append((place - 1, end)) }
            (last, next) = (end, place + 1)
        }
        guard last == count, next == documents * positions + 1 || last == 0 else {
            throw bad("indptr ends at \(last), expected \(count) indices")
        }
        return ends
    }

    private static func integers(_ reader: NPZReader, _ name: String) throws -> [Int] {
        let (header, data) = try reader.array(name)
        guard let integers = PickleValue.array(header, data).integers else {
            throw NPZError.unsupported(
                path: reader.file.path, array: name,
                reason: "has dtype '\(header.descr)', expected '<i4' or '<i8'")
        }
        return integers
    }
}

/// Limits on the arrays that are read, far above those of a run. Without limits, a small file could claim a shape for
/// which the reader would allocate any amount of memory.
enum SizeLimits {
    private static let documents = 1 << 24
    private static let tokens = 1 << 20
    private static let features = 1 << 22
    /// The limit on the tokens of all documents of an activations file, padding included.
    static let rows = 1 << 28

    /// Returns whether each size is from 0 to its limit.
    static func allow(documents: Int, tokens: Int, features: Int = 1) -> Bool {
        (0...Self.documents).contains(documents) && (0...Self.tokens).contains(tokens)
            && (0...Self.features).contains(features)
    }

    /// The limits as text for a message.
    static let words =
        "\(documents) documents, \(tokens) tokens each, \(rows) tokens with padding, \(features) features"
}

/// Readers of an author's other files: metrics, tokens, texts.
enum AuthorFiles {
    /// Returns the elements of the float16 array `[rows, columns]` in the file at `path`, row by row. Throws
    /// `FileError`, `NPZError` or `ResultsError`.
    static func metric(_ path: String, rows: Int, columns: Int) throws -> [Float] {
        let scan = try ArrayScan(npy: path)
        guard scan.header == NPYHeader(descr: "<f2", shape: [rows, columns]) else {
            throw ResultsError.badFile(
                path: path,
                reason:
                    "is \(scan.header.descr) \(scan.header.shape), expected <f2 [\(rows), \(columns)]"
            )
        }
        try scan.checkSize()
        guard rows > 0, columns > 0 else { return [] }
        var values = [Float](repeating: 0, count: rows * columns)
        try scan.forEachNonzero { index, bits in
            values[index] = Float(Float16(bitPattern: UInt16(truncatingIfNeeded: bits)))
        }
        return values
    }

    /// Returns the token pieces of each document, padding included. Throws `FileError` or `ResultsError`.
    static func tokens(_ path: String) throws -> [[String]] {
        try read(path, "arrays of tokens") { (scanner) throws(JSONSyntaxError) in
            var pieces: [String] = []
            try scanner.readArray { (scanner) throws(JSONSyntaxError) in
                pieces.append(try readString(&scanner))
            }
            return pieces
        }
    }

    /// Returns the text of each document. Throws `FileError` or `ResultsError`.
    static func texts(_ path: String) throws -> [String] {
        try read(path, "texts") { (scanner) throws(JSONSyntaxError) in try readString(&scanner) }
    }

    private static func readString(_ scanner: inout JSONScanner) throws(JSONSyntaxError) -> String {
        var bytes: [UInt8] = []
        try scanner.readString(into: &bytes)
        guard let string = String(validating: bytes, as: UTF8.self) else {
            throw scanner.failure("a string that is not valid Unicode")
        }
        return string
    }

    private static func read<Element>(
        _ path: String, _ what: String,
        _ element: (inout JSONScanner) throws(JSONSyntaxError) -> Element
    ) throws -> [Element] {
        let file = try MappedFile(path: path)
        do {
            return try file.withBytes { bytes in
                var scanner = JSONScanner(bytes)
                var elements: [Element] = []
                try scanner.readArray { (scanner) throws(JSONSyntaxError) in
                    elements.append(try element(&scanner))
                }
                try scanner.expectEnd()
                return elements
            }
        } catch let error as JSONSyntaxError {
            throw file.explained(
                ResultsError.badFile(path: path, reason: "is not an array of \(what): \(error)"),
                as: .result)
        }
    }
}
