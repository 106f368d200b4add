// AuthorMix records (Fisher et al. 2024, arXiv 2408.15666) to documents by author.

import ByteJSON

/// Why a corpus was refused. Each names the file and, where there is one, the line.
public enum CorpusError: Error, Equatable, CustomStringConvertible {
    /// A record that is not what the format asks for.
    case badRecord(path: String, line: Int, reason: String)
    /// What is wrong from this line on concerns the file, not one record: another kind of file, or form of JSON. The reason
    /// says what to do.
    case badFile(path: String, line: Int, reason: String)
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
        case .badFile(let path, let line, let reason): "\(path), line \(line): \(reason)"
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
    /// What was read, and what should be said of it.
    public struct Reading: Sendable {
        /// Authors in order of their first accepted document.
        public let authors: [AuthorDocuments]
        /// Names in the selection that no record has, a sentence each. None where the files were not read to their end.
        public let warnings: [String]
    }

    /// The documents that `selection` accepts from the files at `paths` (JSONL or a JSON array each; plain, gzip or
    /// zstd, with as large a window as `window` says). Lines are counted on from one file to the next. Throws `FileError` or
    /// `CorpusError`.
    public static func read(
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
    /// All authors so far, accepted or not, in order; none where no author is named in the selection.
    private(set) var authorsSeen: [String] = []
    private var seen: Set<ExactString> = []

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
