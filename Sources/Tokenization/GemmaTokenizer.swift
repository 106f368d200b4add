// Gemma's tokenizer. Its ids are equal to those of the reference, Hugging Face's fast tokenizer. It works in these
// steps:
// 1. Find the added tokens in the raw text. The other steps apply to the text between them.
// 2. Replace each space by U+2581.
// 3. Look up each character. A character that is not in the vocabulary becomes one token for each of its bytes.
// 4. Apply the byte-pair merges.

import ByteJSON
import Files
import HeapModule

/// Errors for the files of a tokenizer that cannot be used. Each message names the file or folder.
package enum TokenizerError: Error, Equatable, CustomStringConvertible {
    /// The folder has neither `tokenizer.json` nor `tokenizer.model`.
    case noTokenizer(directory: String)
    /// The file is damaged, or is not the file of a Gemma tokenizer.
    case badFile(path: String, reason: String)
    /// The file describes a tokenizer that computes other ids than Gemma's.
    case otherKind(path: String, reason: String)
    /// Another file in the folder contradicts the tokenizer's file.
    case contradiction(path: String, reason: String)

    init(_ problem: Vocabulary.Problem, path: String) {
        self =
            problem.isAboutKind
            ? .otherKind(path: path, reason: problem.reason)
            : .badFile(path: path, reason: problem.reason)
    }

    /// The message: the file, the problem, and the next step.
    package var description: String {
        switch self {
        case .noTokenizer(let directory):
            "\(directory): has neither tokenizer.json nor tokenizer.model; copy one from the model's repository into this folder"
        case .badFile(let path, let reason):
            "\(path): \(reason); take the file from the Gemma-2 model's repository again"
        case .otherKind(let path, let reason):
            "\(path): \(reason); save the tokenizer without this setting, or take the file from the Gemma-2 model's repository"
        case .contradiction(let path, let reason):
            "\(path): \(reason); save the tokenizer again, so that its files agree (transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(NEW)), or remove the file that you do not want"
        }
    }
}

/// Converts text to Gemma's token ids.
package struct GemmaTokenizer: Tokenizer {
    let vocabulary: Vocabulary
    let merges: MergeTable
    private let addedTokens: AddedTokens
    /// The ids of `<0x00>` … `<0xFF>`.
    private let byteTokens: [TokenID]
    /// Whether a text can be split before each space, so that its words are tokenized separately, without changing
    /// ids. True for Gemma's tokenizer. False if some merge joins a piece that does not end in a space with a piece
    /// that begins with one.
    var splitsAtSpaces: Bool

    /// The id of `<pad>`, which fills the outputs after the end of a document.
    package let pad: TokenID
    /// `<bos>`, with which every sequence of tokens begins.
    package var leadingToken: TokenID { bos }
    let bos: TokenID

    /// Creates a tokenizer. Throws if the vocabulary lacks `<pad>`, `<bos>` or the token of a byte.
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
            // Gemma's published vocabulary has the tab character in place of the byte piece `<0x09>`.
            if byte == 9, vocabulary.id(of: Array(name.utf8)) == nil {
                bytes.append(try required("\t"))
            } else {
                bytes.append(try required(name))
            }
        }
        byteTokens = bytes
        // Without a piece U+2581, a space becomes three byte tokens, which the check of merges below does not cover.
        // So texts are not split then.
        splitsAtSpaces =
            vocabulary.id(of: GemmaTokenizer.space) != nil
            && !merges.contains { left, right in
                vocabulary.piece(right).starts(with: GemmaTokenizer.space)
                    && !vocabulary.piece(left).suffix(3).elementsEqual(GemmaTokenizer.space)
            }
    }

    /// The UTF-8 of U+2581, which pieces have in place of a space.
    private static let space: [UInt8] = [0xE2, 0x96, 0x81]

    /// Reads the tokenizer in `directory`. Throws `FileError`, `UnexpectedFileError` or `TokenizerError`.
    package init(directory: String) throws {
        let file = try TokenizerFiles.file(in: directory)
        if file.hasSuffix(".json") {
            try self.init(tokenizerJSON: file)
        } else {
            try self.init(sentencePieceModel: file)
        }
    }

    /// The results of checking a tokenizer's file.
    struct Findings {
        /// Warnings. Each names the file.
        var warnings: [String] = []
        /// The id of `<bos>`. Nil if `tokenizer.json` has no such added token, or `tokenizer.model` has no such
        /// piece.
        var bos: Int?
        /// The texts of the added tokens.
        var added: Set<ExactString>
    }

    /// One more than the largest id.
    package var count: Int { vocabulary.count }

    /// Returns the UTF-8 of a token's piece in the spelling of Hugging Face: `▁the`, `\n`, `<0xF0>`.
    package func piece(_ id: TokenID) -> ArraySlice<UInt8> { vocabulary.piece(id) }

    /// Returns the ids of `text`, without `<bos>`. The time grows as n log n with the length of `text`. `cache`
    /// stores the ids of words. A repeated word costs almost no time, even in another text with the same cache.
    package func encode(_ text: String, _ cache: inout WordCache) -> [TokenID] {
        var text = text
        return text.withUTF8 { encode($0, &cache) }
    }

    private func encode(
        _ text: UnsafeBufferPointer<UInt8>, _ cache: inout WordCache
    ) -> [TokenID] {
        var ids: [TokenID] = []
        ids.reserveCapacity(text.count / 3)
        // `start..<position` is the current stretch: text without added tokens that is tokenized separately. With
        // `splitsAtSpaces`, a new stretch begins at each space that follows another character.
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

    /// Returns whether the last character of `text` is a space or U+2581.
    private func endsInSpace(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
        text.last == 0x20
            || text.last == GemmaTokenizer.space.last
                && text.suffix(3).elementsEqual(GemmaTokenizer.space)
    }

    // MARK: Byte-pair merges

    /// A pair of neighbouring symbols that can merge. Candidates are ordered by rank, then by position.
    private struct Candidate: Comparable {
        var order: UInt64
        var left: TokenID
        var right: TokenID
        var result: TokenID

        var position: Int { Int(order & 0xFFFF_FFFF) }

        static func < (a: Candidate, b: Candidate) -> Bool { a.order < b.order }
        static func == (a: Candidate, b: Candidate) -> Bool { a.order == b.order }
    }

    /// Appends the ids of `text`, which has no added tokens, to `ids`.
    private func merge(_ text: UnsafeBufferPointer<UInt8>, into ids: inout [TokenID]) {
        // The symbols form a linked list. A merge writes its result to the left symbol and unlinks the right symbol.
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
            // A candidate is out of date if another merge has changed one of its two symbols.
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

    /// Returns one token for each Unicode scalar, or one for each of its bytes if the scalar is not in the
    /// vocabulary.
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
