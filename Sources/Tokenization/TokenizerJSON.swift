// Reading `tokenizer.json`, the form of Hugging Face's fast tokenizers.
// Format: huggingface/tokenizers, tokenizers/src/tokenizer/serialization.rs and models/bpe/serialization.rs.

import ArrayFiles
import ByteJSON

extension GemmaTokenizer {
    /// Reads the file at `path`. Throws `FileError`, or `TokenizerError` where it is damaged or describes
    /// another tokenizer than Gemma's.
    public init(tokenizerJSON path: String) throws {
        let file = try MappedFile(path: path)
        func bad(_ reason: String) -> TokenizerError { .badFile(path: path, reason: reason) }
        do {
            var contents = TokenizerJSON()
            try file.withBytes { try contents.read($0) }
            try self.init(contents)
        } catch let error as JSONSyntaxError {
            throw bad("not the JSON of a tokenizer: \(error)")
        } catch let problem as Vocabulary.Problem {
            throw bad(problem.reason)
        }
    }

    private init(_ contents: TokenizerJSON) throws(Vocabulary.Problem) {
        try contents.checkKind()
        // Added tokens may be missing from the model's vocabulary; they are pieces all the same.
        let modelOnly = try Vocabulary(bytes: contents.bytes, pieces: contents.vocabulary)
        var (bytes, pieces) = (contents.bytes, contents.vocabulary)
        var addedTokens = AddedTokens()
        for token in contents.addedTokens {
            let name = String(decoding: token.content, as: UTF8.self)
            guard !token.content.isEmpty, (0..<TokenizerJSON.idLimit).contains(token.id) else {
                throw Vocabulary.Problem(
                    reason: "added token '\(name)' is empty or has no valid id")
            }
            if let id = modelOnly.id(of: token.content) {
                guard Int(id) == token.id else {
                    throw Vocabulary.Problem(
                        reason:
                            "added token '\(name)' has id \(token.id), but \(id) in the vocabulary")
                }
            } else {
                pieces.append((bytes.count..<bytes.count + token.content.count, token.id))
                bytes += token.content
            }
            addedTokens.insert(token.content, id: TokenID(token.id))
        }
        let vocabulary = try Vocabulary(bytes: bytes, pieces: pieces)
        try self.init(
            vocabulary: vocabulary, merges: try contents.mergeTable(modelOnly),
            addedTokens: addedTokens)
    }
}

/// What a `tokenizer.json` says, as far as it matters here.
private struct TokenizerJSON {
    struct AddedToken {
        var content: [UInt8] = []
        var id = -1
    }

    /// Ids beyond this would only be a way of asking for memory.
    static let idLimit = 1 << 24

    /// The bytes of all pieces.
    var bytes: [UInt8] = []
    var vocabulary: [(range: Range<Int>, id: Int)] = []
    var addedTokens: [AddedToken] = []
    /// Both parts of each merge, as ranges of `mergeBytes`.
    var merges: [(left: Range<Int>, right: Range<Int>)] = []
    var mergeBytes: [UInt8] = []
    var normalizer: JSONValue?
    var modelType = ""
    var hasByteFallback = false

    // MARK: Reading

    mutating func read(_ text: UnsafeBufferPointer<UInt8>) throws(JSONSyntaxError) {
        var scanner = JSONScanner(text)
        try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
            switch String(decoding: key, as: UTF8.self) {
            case "added_tokens":
                try scanner.readArray { (scanner) throws(JSONSyntaxError) in
                    try readAddedToken(&scanner)
                }
            case "normalizer": normalizer = try JSONValue(from: &scanner)
            case "model": try readModel(&scanner)
            default: try scanner.skipValue()
            }
        }
        try scanner.expectEnd()
    }

    private mutating func readAddedToken(_ scanner: inout JSONScanner) throws(JSONSyntaxError) {
        var token = AddedToken()
        try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
            switch String(decoding: key, as: UTF8.self) {
            case "content": try scanner.readString(into: &token.content)
            case "id": token.id = try scanner.readScalar().integer ?? -1
            case let flag where ["single_word", "lstrip", "rstrip", "normalized"].contains(flag):
                // Gemma's are all false, and another value would ask for another algorithm.
                guard try scanner.readScalar() == .bool(false) else {
                    throw scanner.failure("an added token with \(flag) other than false")
                }
            default: try scanner.skipValue()
            }
        }
        addedTokens.append(token)
    }

    private mutating func readModel(_ scanner: inout JSONScanner) throws(JSONSyntaxError) {
        var piece: [UInt8] = []
        try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
            switch String(decoding: key, as: UTF8.self) {
            case "type": modelType = try JSONValue(from: &scanner).string ?? ""
            case "byte_fallback": hasByteFallback = try scanner.readScalar() == .bool(true)
            case "vocab":
                try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
                    guard let id = try scanner.readScalar().integer,
                        (0..<TokenizerJSON.idLimit).contains(id)
                    else { throw scanner.failure("a piece whose id is not a number below 2^24") }
                    vocabulary.append((bytes.count..<bytes.count + key.count, id))
                    for byte in key.indices { bytes.append(key[byte]) }
                }
            case "merges":
                try scanner.readArray { (scanner) throws(JSONSyntaxError) in
                    try readMerge(&scanner, &piece)
                }
            default: try scanner.skipValue()
            }
        }
    }

    /// Older files have `"a b"`, newer ones `["a", "b"]`.
    private mutating func readMerge(
        _ scanner: inout JSONScanner, _ piece: inout [UInt8]
    ) throws(JSONSyntaxError) {
        var parts: [Range<Int>] = []
        if scanner.peek() == UInt8(ascii: "[") {
            try scanner.readArray { (scanner) throws(JSONSyntaxError) in
                try scanner.readString(into: &piece)
                parts.append(append(piece[...]))
            }
        } else {
            try scanner.readString(into: &piece)
            if let space = piece.firstIndex(of: 0x20) {
                parts = [append(piece[..<space]), append(piece[(space + 1)...])]
            }
        }
        guard parts.count == 2 else {
            throw scanner.failure("a merge that is not two pieces")
        }
        merges.append((parts[0], parts[1]))
    }

    private mutating func append(_ part: ArraySlice<UInt8>) -> Range<Int> {
        mergeBytes += part
        return mergeBytes.count - part.count..<mergeBytes.count
    }

    // MARK: Checking

    /// Refuses tokenizers that work otherwise than Gemma's.
    func checkKind() throws(Vocabulary.Problem) {
        guard modelType == "BPE", hasByteFallback else {
            throw Vocabulary.Problem(
                reason:
                    "its model is '\(modelType)' with byte_fallback \(hasByteFallback), expected BPE with byte_fallback"
            )
        }
        let rule = normalizer?.object
        guard rule?["type"]?.string == "Replace",
            rule?["pattern"]?.object?["String"]?.string == " ",
            rule?["content"]?.string == "\u{2581}"
        else {
            throw Vocabulary.Problem(
                reason: "its normalizer is not Gemma's, which replaces each space by U+2581")
        }
    }

    /// The merges by ids. Throws where a part or a result is not in the vocabulary.
    func mergeTable(_ vocabulary: Vocabulary) throws(Vocabulary.Problem) -> MergeTable {
        var table = MergeTable(capacity: merges.count)
        for (rank, merge) in merges.enumerated() {
            // The two parts lie side by side, so that their bytes are the result's.
            func id(_ range: Range<Int>) throws(Vocabulary.Problem) -> TokenID {
                let found = mergeBytes.withUnsafeBufferPointer {
                    vocabulary.id(of: UnsafeBufferPointer(rebasing: $0[range]))
                }
                guard let found else {
                    let piece = String(decoding: mergeBytes[range], as: UTF8.self)
                    throw Vocabulary.Problem(
                        reason:
                            "merge \(rank) needs the piece '\(piece)', which is not in the vocabulary"
                    )
                }
                return found
            }
            table.append(
                try id(merge.left), try id(merge.right),
                into: try id(merge.left.lowerBound..<merge.right.upperBound), rank: rank)
        }
        return table
    }
}
