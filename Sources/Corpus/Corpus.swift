// Reads AuthorMix records (Fisher et al. 2024, arXiv 2408.15666) and groups their documents by author.

import ByteJSON

/// Errors for a corpus that cannot be used. Each message names the file, and the line if one line has the problem.
package enum CorpusError: Error, Equatable, CustomStringConvertible {
    /// A record does not have the required form.
    case badRecord(path: String, line: Int, reason: String)
    /// The problem concerns the file, not one record: for example, from this line on it is of another kind, or its
    /// JSON has another form. `reason` includes the next step.
    case badFile(path: String, line: Int, reason: String)
    /// A compressed file cannot be decompressed.
    case damagedCompression(path: String, reason: String)
    /// The corpus has no records.
    case empty(path: String)
    /// The corpus has records, but the selection accepts none of them.
    case noneAccepted(path: String, records: Int, reasons: String)

    /// The message: the file and line, the problem, and the next step.
    package var description: String {
        switch self {
        case .badRecord(let path, let line, let reason):
            "\(path), line \(line): \(reason); correct or remove this record"
        case .badFile(let path, let line, let reason): "\(path), line \(line): \(reason)"
        case .damagedCompression(let path, let reason):
            "\(path): \(reason); download or compress the file again"
        case .empty(let path):
            "\(path): the file has no records; give a JSONL file or JSON array of AuthorMix records with --data_path"
        case .noneAccepted(let path, let records, let reasons):
            "\(path): no author is left: none of \(records) records was accepted (\(reasons)); lower --min_length_doc, or change --include_authors or --exclude_authors"
        }
    }
}

/// One accepted document.
package struct Document: Codable, Equatable, Sendable {
    /// The text, unchanged from the record.
    package let text: String
    /// The line on which the record begins, from 1. Lines are counted over all files of the corpus.
    package let line: Int

    /// Creates a document from the record that begins on `line`.
    package init(text: String, line: Int) {
        self.text = text
        self.line = line
    }
}

/// An author and the author's accepted documents, in file order.
package struct AuthorDocuments: Codable, Equatable, Sendable {
    /// The author's name, unchanged from the records.
    package let author: String
    /// The accepted documents, in file order.
    package fileprivate(set) var documents: [Document]

    /// Creates an author with `documents`.
    package init(author: String, documents: [Document]) {
        self.author = author
        self.documents = documents
    }
}

/// The criteria that a record must meet to be accepted.
package struct Selection: Codable, Equatable, Sendable {
    /// The key that names the author.
    package var authorField = "style"
    /// The key that holds the text.
    package var textField = "text"
    /// The number of accepted documents, summed over all authors, after which reading stops; nil for no limit.
    package var documentLimit: Int?
    /// The maximum number of documents of one author.
    package var documentsPerAuthor = 250
    /// The minimum number of words of a document, counted as Python's `str.split()` does.
    package var minimumWords = 35
    /// Authors whose records are not accepted.
    package var excludedAuthors: [String] = []
    /// If not empty, only records of these authors are accepted.
    package var includedAuthors: [String] = []

    /// Creates a selection with the default values.
    package init() {}
}

/// Reads the files of a corpus.
package enum Corpus {
    /// The accepted documents, with warnings.
    package struct Reading: Sendable {
        /// The authors, in the order of their first accepted documents.
        package let authors: [AuthorDocuments]
        /// A sentence for each author name in the selection that no record has. Empty if reading stopped at the
        /// document limit, because the rest of the corpus may have these names.
        package let warnings: [String]
    }

    /// Returns the documents that `selection` accepts from the files at `paths`. Each file is JSONL or one JSON
    /// array, plain or compressed with gzip or zstd. `window` is the limit on zstd's window. Line numbers continue
    /// from one file to the next. Throws `FileError` or `CorpusError`.
    package static func read(
        paths: [String], _ selection: Selection, window: CompressionWindow = .any
    ) throws -> Reading {
        var accepted = Accepted(selection)
        var linesBefore = 0
        for path in paths where !accepted.isComplete {
            var parser = RecordParser(selection)
            let reader = try RecordReader(path: path, window: window)
            while !accepted.isComplete,
                try reader.next({ record, line in
                    do throws(RecordProblem) {
                        let (author, text) = try parser.parse(record)
                        accepted.offer(author: author, text: text, line: linesBefore + line)
                    } catch {
                        throw reader.diagnosis(of: record, line, selection).error(error)
                    }
                })
            {}
            linesBefore += reader.lineCount
        }
        let all = paths.joined(separator: ", ")
        guard accepted.recordCount > 0 else { throw CorpusError.empty(path: all) }
        let unmatched =
            accepted.isComplete
            ? [] : unmatchedAuthors(of: selection, among: accepted.authorsSeen)
        guard !accepted.authors.isEmpty else {
            throw CorpusError.noneAccepted(
                path: all, records: accepted.recordCount,
                reasons: ([accepted.reasons] + unmatched).joined(separator: "; "))
        }
        return Reading(authors: accepted.authors, warnings: unmatched)
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
    /// The authors of all records so far, accepted or not, in file order. Empty if the selection names no authors,
    /// because then no name can be unmatched.
    private(set) var authorsSeen: [String] = []
    private var seen: Set<ExactString> = []

    init(_ selection: Selection) {
        self.selection = selection
        excluded = Set(selection.excludedAuthors.map(ExactString.init))
        included = Set(selection.includedAuthors.map(ExactString.init))
    }

    var isComplete: Bool { selection.documentLimit.map { total >= $0 } ?? false }

    var reasons: String {
        "\(tooShort) have fewer than \(selection.minimumWords) words, \(left) are of authors not selected"
    }

    mutating func offer(author: String, text: String, line: Int) {
        recordCount += 1
        let key = ExactString(author)
        if !(excluded.isEmpty && included.isEmpty), seen.insert(key).inserted {
            authorsSeen.append(author)
        }
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
