// AuthorMix records (Fisher et al. 2024, arXiv 2408.15666) to documents by author.

import ArrayFiles
import ByteJSON

/// Why a corpus was refused. Each names the file and, where there is one, the line.
public enum CorpusError: Error, Equatable, CustomStringConvertible {
    /// A record that is not what the format asks for.
    case badRecord(path: String, line: Int, reason: String)
    /// A compressed file that does not decompress.
    case damagedCompression(path: String, reason: String)
    /// No record at all.
    case empty(path: String)
    /// Records, but none that the selection accepts.
    case noneAccepted(path: String, records: Int, reasons: String)

    /// What is wrong, where, and the next step.
    public var description: String {
        switch self {
        case .badRecord(let path, let line, let reason):
            "\(path), line \(line): \(reason); correct or remove this record"
        case .damagedCompression(let path, let reason):
            "\(path): \(reason); download or compress the file again"
        case .empty(let path):
            "\(path): the file has no records; give a JSONL file or JSON array of AuthorMix records with --data_path"
        case .noneAccepted(let path, let records, let reasons):
            "\(path): no author is left: none of \(records) records was accepted (\(reasons)); relax --min_length_doc, --include_authors or --exclude_authors"
        }
    }
}

/// One accepted document.
public struct Document: Codable, Equatable, Sendable {
    /// The text as in the record.
    public let text: String
    /// The line on which the record begins, from 1; where there are several files, as if they were one.
    public let line: Int

    /// A document from `line`.
    public init(text: String, line: Int) {
        self.text = text
        self.line = line
    }
}

/// An author and the documents accepted, in file order.
public struct AuthorDocuments: Codable, Equatable, Sendable {
    /// The author's name as in the records.
    public let author: String
    /// The author's documents.
    public fileprivate(set) var documents: [Document]

    /// An author's documents.
    public init(author: String, documents: [Document]) {
        self.author = author
        self.documents = documents
    }
}

/// Which records are taken.
public struct Selection: Codable, Equatable, Sendable {
    /// The key that names the author.
    public var authorField = "style"
    /// The key that holds the text.
    public var textField = "text"
    /// Stop after this many accepted documents, over all authors.
    public var documentLimit: Int?
    /// Most documents of one author.
    public var documentsPerAuthor = 250
    /// Fewest words, as Python's `str.split()` counts them.
    public var minimumWords = 35
    /// Authors to pass over.
    public var excludedAuthors: [String] = []
    /// If not empty, the only authors to take.
    public var includedAuthors: [String] = []

    /// The defaults.
    public init() {}
}

/// Reads corpora.
public enum Corpus {
    /// The documents that `selection` accepts from the files at `paths` (JSONL or a JSON array each; plain, gzip or
    /// zstd), authors in order of their first accepted document. Lines are counted on from one file to the next. Throws
    /// `FileError` or `CorpusError`.
    public static func read(paths: [String], _ selection: Selection) throws -> [AuthorDocuments] {
        var accepted = Accepted(selection)
        var linesBefore = 0
        for path in paths where !accepted.isComplete {
            var parser = RecordParser(selection, path: path)
            let reader = try RecordReader(path: path)
            while !accepted.isComplete,
                try reader.next({ record, line in
                    let (author, text) = try parser.parse(record, line: line)
                    accepted.offer(author: author, text: text, line: linesBefore + line)
                })
            {}
            linesBefore += reader.lineCount
        }
        let all = paths.joined(separator: ", ")
        guard accepted.recordCount > 0 else { throw CorpusError.empty(path: all) }
        guard !accepted.authors.isEmpty else {
            throw CorpusError.noneAccepted(
                path: all, records: accepted.recordCount, reasons: accepted.reasons)
        }
        return accepted.authors
    }
}

/// Takes author and text out of records; what it needs for that lasts for all of them.
private struct RecordParser {
    private let selection: Selection
    private let path: String
    private let authorKey: [UInt8]
    private let textKey: [UInt8]
    private var scratch: [UInt8] = []

    init(_ selection: Selection, path: String) {
        (self.selection, self.path) = (selection, path)
        (authorKey, textKey) = (Array(selection.authorField.utf8), Array(selection.textField.utf8))
    }

    /// The author and text of one record; all else in it is checked for being JSON and passed over.
    mutating func parse(
        _ record: UnsafeBufferPointer<UInt8>, line: Int
    ) throws -> (author: String, text: String) {
        func bad(_ reason: String) -> CorpusError {
            .badRecord(path: path, line: line, reason: reason)
        }
        if let offset = firstInvalidUTF8(record) {
            throw bad("the record is not valid UTF-8 (at its byte \(offset))")
        }
        var author: FieldValue?
        var text: FieldValue?
        var scanner = JSONScanner(record)
        scratch.reserveCapacity(record.count)
        do {
            guard scanner.peek() == UInt8(ascii: "{") else {
                throw scanner.failure("not a JSON object")
            }
            // The last of duplicate keys wins.
            try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
                if key == authorKey {
                    author = try readField(&scanner)
                } else if key == textKey {
                    text = try readField(&scanner)
                } else {
                    try scanner.skipValue()
                }
            }
            try scanner.expectEnd()
        } catch {
            throw bad("not a JSON record: \(error)")
        }
        func value(_ field: FieldValue?, _ name: String) throws -> String {
            switch field {
            case .string(let string): return string
            case .loneSurrogate:
                throw bad("\"\(name)\" has a lone surrogate escape, which is no character")
            case .other: throw bad("\"\(name)\" is not a string")
            case nil: throw bad("has no \"\(name)\"")
            }
        }
        return (
            try value(author, selection.authorField), try value(text, selection.textField)
        )
    }

    private enum FieldValue {
        case string(String)
        case loneSurrogate
        case other
    }

    private mutating func readField(
        _ scanner: inout JSONScanner
    ) throws(JSONSyntaxError) -> FieldValue {
        guard scanner.peek() == UInt8(ascii: "\"") else {
            try scanner.skipValue()
            return .other
        }
        try scanner.readString(into: &scratch)
        // The record's bytes are UTF-8, so only an escape can have made an invalid string.
        return String(validating: scratch, as: UTF8.self).map(FieldValue.string) ?? .loneSurrogate
    }
}

/// The documents accepted so far.
private struct Accepted {
    private let selection: Selection
    private let excluded: Set<ExactString>
    private let included: Set<ExactString>
    private var indices: [ExactString: Int] = [:]
    private var total = 0
    private var (tooShort, left) = (0, 0)
    private(set) var authors: [AuthorDocuments] = []
    private(set) var recordCount = 0

    init(_ selection: Selection) {
        self.selection = selection
        excluded = Set(selection.excludedAuthors.map(ExactString.init))
        included = Set(selection.includedAuthors.map(ExactString.init))
    }

    var isComplete: Bool { selection.documentLimit.map { total >= $0 } ?? false }

    var reasons: String {
        "\(tooShort) have fewer than \(selection.minimumWords) words, \(left) are of authors left out"
    }

    mutating func offer(author: String, text: String, line: Int) {
        recordCount += 1
        let key = ExactString(author)
        guard !excluded.contains(key), included.isEmpty || included.contains(key) else {
            left += 1
            return
        }
        guard wordCount(text) >= selection.minimumWords else {
            tooShort += 1
            return
        }
        let index = indices[key] ?? authors.count
        let count = index < authors.count ? authors[index].documents.count : 0
        guard count < selection.documentsPerAuthor else { return }
        if index == authors.count {
            indices[key] = index
            authors.append(AuthorDocuments(author: author, documents: []))
        }
        authors[index].documents.append(Document(text: text, line: line))
        total += 1
    }
}
