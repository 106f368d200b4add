// Gemma's tokenizer: added tokens on the raw text, spaces to U+2581, then byte-pair merges over each
// remaining piece as a whole, with bytes standing in for characters that the vocabulary lacks.
// The reference is Hugging Face's fast tokenizer, to which ids and pieces are equal.

import ByteJSON
import Files
import HeapModule

/// A token's number.
public typealias TokenID = Int32

/// Why a tokenizer file was refused. Each names the file.
public enum TokenizerError: Error, Equatable, CustomStringConvertible {
    /// Neither form of tokenizer is in the folder.
    case noTokenizer(directory: String)
    /// The file is damaged or not a Gemma tokenizer.
    case badFile(path: String, reason: String)
    /// The file says that ids are to be found in another way than Gemma's tokenizer finds them.
    case otherKind(path: String, reason: String)

    init(_ problem: Vocabulary.Problem, path: String) {
        self =
            problem.isAboutKind
            ? .otherKind(path: path, reason: problem.reason)
            : .badFile(path: path, reason: problem.reason)
    }
    /// A file beside the tokenizer's says otherwise than that.
    case contradiction(path: String, reason: String)

    /// What is wrong, where, and the next step.
    public var description: String {
        switch self {
        case .noTokenizer(let directory):
            "\(directory): has neither tokenizer.json nor tokenizer.model; copy one from the model's repository into this folder"
        case .badFile(let path, let reason):
            "\(path): \(reason); take the file from the Gemma-2 model's repository again"
        case .otherKind(let path, let reason):
            "\(path): \(reason); save the tokenizer without that, or take the file from the Gemma-2 model's repository"
        case .contradiction(let path, let reason):
            "\(path): \(reason); save the tokenizer again, so that its files agree (transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(NEW)), or remove the file that is not meant"
        }
    }
}

/// Turns text into Gemma's token ids.
public struct GemmaTokenizer: Sendable {
    let vocabulary: Vocabulary
    let merges: MergeTable
    private let addedTokens: AddedTokens
    /// Ids of `<0x00>` … `<0xFF>`.
    private let byteTokens: [TokenID]
    /// Whether no merge joins what ends before a space with what begins with one, as it is with Gemma's: then the
    /// words of a text are tokenized each by itself.
    var splitsAtSpaces: Bool

    /// `<pad>`, which fills the outputs after a document's end.
    public let pad: TokenID
    /// `<bos>`, which every sequence begins with.
    public let bos: TokenID

    /// Puts a tokenizer together. Throws a reason where the vocabulary lacks what Gemma's has.
    init(
        vocabulary: Vocabulary, merges: MergeTable, addedTokens: AddedTokens
    ) throws(Vocabulary.Problem) {
        func required(_ piece: String) throws(Vocabulary.Problem) -> TokenID {
            guard let id = vocabulary.id(of: Array(piece.utf8)) else {
                throw Vocabulary.Problem(reason: "the vocabulary lacks \(piece)")
            }
            return id
        }
        self.vocabulary = vocabulary
        self.merges = merges
        self.addedTokens = addedTokens
        pad = try required("<pad>")
        bos = try required("<bos>")
        var bytes: [TokenID] = []
        for byte in 0...255 {
            let digits = String(byte, radix: 16, uppercase: true)
            let name = "<0x\(byte < 16 ? "0" : "")\(digits)>"
            // The published vocabulary has the tab itself in place of its byte piece.
            if byte == 9, vocabulary.id(of: Array(name.utf8)) == nil {
                bytes.append(try required("\t"))
            } else {
                bytes.append(try required(name))
            }
        }
        byteTokens = bytes
        // Without a piece for the space it would be three bytes' tokens, which this does not look at.
        splitsAtSpaces =
            vocabulary.id(of: GemmaTokenizer.space) != nil
            && !merges.contains { left, right in
                vocabulary.piece(right).starts(with: GemmaTokenizer.space)
                    && !vocabulary.piece(left).suffix(3).elementsEqual(GemmaTokenizer.space)
            }
    }

    /// U+2581, which stands for a space.
    private static let space: [UInt8] = [0xE2, 0x96, 0x81]

    /// The names of a tokenizer's file; the first that exists is read.
    public static let fileNames = ["tokenizer.json", "tokenizer.model"]

    /// The file to read in `directory`: `tokenizer.json`, or where there is none `tokenizer.model`. Throws
    /// `TokenizerError` where there is neither.
    public static func file(in directory: String) throws(TokenizerError) -> String {
        let files = fileNames.map { "\(directory)/\($0)" }
        guard let file = files.first(where: isListed) else {
            throw .noTokenizer(directory: directory)
        }
        return file
    }

    /// Reads the tokenizer in `directory`. Throws `FileError`, `UnexpectedFileError` or `TokenizerError`.
    public init(directory: String) throws {
        let file = try GemmaTokenizer.file(in: directory)
        if file.hasSuffix(".json") {
            try self.init(tokenizerJSON: file)
        } else {
            try self.init(sentencePieceModel: file)
        }
    }

    /// Looks at what the tokenizer in `directory`, and what lies beside it, says of itself, without its pieces: what is to be
    /// said of it, and the id of `<bos>` where that is quickly found. Throws as reading it does, and where what lies beside it
    /// would change ids.
    public static func check(directory: String) throws -> (warnings: [String], bos: Int?) {
        let file = try file(in: directory)
        let found =
            file.hasSuffix(".json")
            ? try check(tokenizerJSON: file) : try check(sentencePieceModel: file)
        let companions = try TokenizerCompanions(
            directory: directory, tokenizer: file, added: found.added)
        return (found.warnings + companions.warnings, found.bos)
    }

    /// What a tokenizer's file says of itself.
    struct Findings {
        /// What is to be said of it.
        var warnings: [String] = []
        /// The id of `<bos>`, where that is quickly found.
        var bos: Int?
        /// The tokens that are cut out of texts.
        var added: Set<ExactString>
    }

    /// One more than the largest id.
    public var count: Int { vocabulary.count }

    /// The UTF-8 of a token's piece as Hugging Face names it: `▁the`, `\n`, `<0xF0>`.
    public func piece(_ id: TokenID) -> ArraySlice<UInt8> { vocabulary.piece(id) }

    /// The ids of `text`, without `<bos>`. Time grows as n log n. With the same `cache` for several texts, words
    /// that come again cost next to nothing.
    public func encode(_ text: String, _ cache: inout WordCache) -> [TokenID] {
        var text = text
        return text.withUTF8 { encode($0, &cache) }
    }

    /// The ids of `text`, without `<bos>`.
    public func encode(_ text: String) -> [TokenID] {
        var cache = WordCache()
        return encode(text, &cache)
    }

    private func encode(
        _ text: UnsafeBufferPointer<UInt8>, _ cache: inout WordCache
    ) -> [TokenID] {
        var ids: [TokenID] = []
        ids.reserveCapacity(text.count / 3)
        // Of the stretch that is tokenized by itself: it has no added tokens, and no space after anything else.
        var (start, position) = (0, 0)
        func finishStretch() {
            let stretch = UnsafeBufferPointer(rebasing: text[start..<position])
            if stretch.count > WordCache.longest {
                merge(stretch, into: &ids)
            } else if !stretch.isEmpty {
                cache.append(stretch, to: &ids) { merge(stretch, into: &$0) }
            }
            start = position
        }
        while position < text.count {
            if let token = addedTokens.match(text, at: position) {
                finishStretch()
                ids.append(token.id)
                (start, position) = (token.end, token.end)
                continue
            }
            if text[position] == 0x20, splitsAtSpaces, position > start,
                !endsInSpace(text[start..<position])
            {
                finishStretch()
            }
            position += 1
        }
        finishStretch()
        return ids
    }

    /// Whether the last character is a space, or the one that stands for it.
    private func endsInSpace(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
        text.last == 0x20
            || text.last == GemmaTokenizer.space.last
                && text.suffix(3).elementsEqual(GemmaTokenizer.space)
    }

    // MARK: Byte-pair merges

    /// A pair that could merge; ordered by rank, then from the left.
    private struct Candidate: Comparable {
        var order: UInt64
        var left: TokenID
        var right: TokenID
        var result: TokenID

        var position: Int { Int(order & 0xFFFF_FFFF) }

        static func < (a: Candidate, b: Candidate) -> Bool { a.order < b.order }
        static func == (a: Candidate, b: Candidate) -> Bool { a.order == b.order }
    }

    /// Appends the tokens of `text`, in which no added token stands.
    private func merge(_ text: UnsafeBufferPointer<UInt8>, into ids: inout [TokenID]) {
        // A linked list of symbols: a merge writes its result to the left one and unlinks the right one.
        var symbols = symbols(of: text)
        let count = symbols.count
        var next = (0..<count).map { Int32($0 + 1) }
        var previous = (0..<count).map { Int32($0 - 1) }
        var candidates: [Candidate] = []
        candidates.reserveCapacity(count)
        func candidate(at position: Int) -> Candidate? {
            let right = Int(next[position])
            guard right < count, let merge = merges.merge(symbols[position], symbols[right]) else {
                return nil
            }
            return Candidate(
                order: UInt64(merge.rank) << 32 | UInt64(position), left: symbols[position],
                right: symbols[right], result: merge.result)
        }
        for position in 0..<count {
            if let found = candidate(at: position) { candidates.append(found) }
        }
        var heap = Heap(candidates)
        while let best = heap.popMin() {
            let position = best.position
            let right = Int(next[position])
            // A merge since may have changed either side: then this candidate is stale.
            guard symbols[position] == best.left, right < count, symbols[right] == best.right else {
                continue
            }
            symbols[position] = best.result
            symbols[right] = -1
            next[position] = next[right]
            if Int(next[right]) < count { previous[Int(next[right])] = Int32(position) }
            if let found = candidate(at: position) { heap.insert(found) }
            if previous[position] >= 0, let found = candidate(at: Int(previous[position])) {
                heap.insert(found)
            }
        }
        for symbol in symbols where symbol >= 0 { ids.append(symbol) }
    }

    /// One token a Unicode scalar, or its bytes' tokens where the vocabulary lacks the scalar.
    private func symbols(of text: UnsafeBufferPointer<UInt8>) -> [TokenID] {
        let space = GemmaTokenizer.space
        var symbols: [TokenID] = []
        symbols.reserveCapacity(text.count)
        var position = 0
        while position < text.count {
            let length =
                switch text[position] {
                case 0..<0xC0: 1
                case 0xC0..<0xE0: 2
                case 0xE0..<0xF0: 3
                default: 4
                }
            let scalar = UnsafeBufferPointer(rebasing: text[position..<position + length])
            position += length
            if scalar[0] == 0x20 {
                append(space.withUnsafeBufferPointer { vocabulary.id(of: $0) }, space)
            } else {
                append(vocabulary.id(of: scalar), scalar)
            }
        }
        func append(_ id: TokenID?, _ scalar: some Sequence<UInt8>) {
            if let id {
                symbols.append(id)
            } else {
                for byte in scalar { symbols.append(byteTokens[Int(byte)]) }
            }
        }
        return symbols
    }
}
