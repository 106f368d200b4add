// Reads `tokenizer.json`, the file of Hugging Face's fast tokenizers.
// Format: huggingface/tokenizers, tokenizers/src/tokenizer/serialization.rs and models/bpe/serialization.rs.

import ByteJSON
import Files

extension GemmaTokenizer {
    /// Reads the file at `path`. Throws `FileError` or `UnexpectedFileError`. Throws `TokenizerError` if the file is
    /// damaged or describes a tokenizer that is not Gemma's.
    package init(tokenizerJSON path: String) throws {
        self = try GemmaTokenizer.read(path, TokenizerJSON()) { try GemmaTokenizer($0) }
    }

    /// Reads the file at `path` except its pieces and merges. Returns warnings, the id of `<bos>` and the added
    /// tokens. Throws errors of the same types as `init(tokenizerJSON:)`.
    static func check(tokenizerJSON path: String) throws -> Findings {
        let contents = try read(path, TokenizerJSON(skippingPieces: true)) { $0 }
        return Findings(
            warnings: [contents.unknown.warning(path, "keys", limit: 40)].compactMap { $0 },
            bos: contents.addedTokens.first { $0.content == Array("<bos>".utf8) }?.id,
            added: Set(
                contents.addedTokens.map {
                    ExactString(String(decoding: $0.content, as: UTF8.self))
                }))
    }

    /// Reads the file at `path` into `contents`, checks that the tokenizer is Gemma's, and returns `make(contents)`.
    /// The errors name the file.
    private static func read<Made>(
        _ path: String, _ contents: TokenizerJSON, _ make: (TokenizerJSON) throws -> Made
    ) throws -> Made {
        let file = try MappedFile(path: path)
        func bad(_ reason: String) -> TokenizerError { .badFile(path: path, reason: reason) }
        var contents = contents
        do {
            try file.withBytes { try contents.read($0) }
            try file.checkIsNoAnswer()
            try contents.checkKind()
            return try make(contents)
        } catch let error as JSONSyntaxError {
            throw file.explained(bad("is not the JSON of a tokenizer: \(error)"), as: .json)
        } catch let problem as Vocabulary.Problem {
            throw TokenizerError(problem, path: path)
        }
    }

    private init(_ contents: TokenizerJSON) throws(Vocabulary.Problem) {
        // `modelOnly` has the pieces of the model's vocabulary. The loop below adds the added tokens that are not
        // among them.
        let modelOnly = try Vocabulary(bytes: contents.bytes, pieces: contents.vocabulary)
        var (bytes, pieces) = (contents.bytes, contents.vocabulary)
        var addedTokens = AddedTokens()
        // Hugging Face's library gives an added token outside the model's vocabulary the next free id, and ignores
        // the id in the file. So a file with another id is refused.
        var nextID = contents.vocabulary.count
        for token in contents.addedTokens {
            let name = String(decoding: token.content, as: UTF8.self)
            guard !token.content.isEmpty, (0..<TokenizerJSON.idLimit).contains(token.id) else {
                throw Vocabulary.Problem(
                    reason: "added token '\(name)' is empty or has no valid id")
            }
            guard token.content.count <= Vocabulary.longestPiece else {
                throw Vocabulary.Problem(
                    reason:
                        "the added token of id \(token.id) has \(token.content.count) bytes, more than \(Vocabulary.longestPiece)"
                )
            }
            if let id = modelOnly.id(of: token.content) {
                guard Int(id) == token.id else {
                    throw Vocabulary.Problem(
                        reason:
                            "added token '\(name)' has id \(token.id), but \(id) in the vocabulary")
                }
            } else {
                guard token.id == nextID else {
                    throw Vocabulary.Problem(
                        reason:
                            "added token '\(name)' has id \(token.id), but Hugging Face's tokenizers would give it the next free id, \(nextID)"
                    )
                }
                pieces.append((bytes.count..<bytes.count + token.content.count, token.id))
                bytes += token.content
            }
            nextID = max(nextID, token.id + 1)
            addedTokens.insert(token.content, id: TokenID(token.id))
        }
        let vocabulary = try Vocabulary(bytes: bytes, pieces: pieces)
        try self.init(
            vocabulary: vocabulary, merges: try contents.mergeTable(modelOnly),
            addedTokens: addedTokens)
    }
}

/// The contents of a `tokenizer.json` that this program needs or checks.
private struct TokenizerJSON {
    struct AddedToken {
        var content: [UInt8] = []
        var id = -1
        /// The keys of the token's entry, except `content` and `id`.
        var rest: [(key: String, value: JSONValue)] = []
    }

    /// The known keys at the top level of the file.
    private static let topKeys = KnownNames(
        used: ["added_tokens", "model", "normalizer", "post_processor", "pre_tokenizer"],
        // This program truncates and pads documents itself. It does not use the decoder, which converts ids to text.
        harmless: ["decoder", "padding", "truncation", "version"])
    /// The known keys of the model, except `vocab` and `merges`.
    private static let modelKeys = KnownNames(
        used: ["byte_fallback", "type"],
        // Every byte has its own token, so the tokenizer never uses the unknown token.
        harmless: ["fuse_unk", "unk_token"],
        changing: [
            "continuing_subword_prefix": ["", .null], "dropout": [0, .null],
            "end_of_word_suffix": ["", .null], "ignore_merges": [.bool(false), .null],
        ])
    /// The known keys of an added token, except `content` and `id`. Other values than the listed ones would change
    /// where tokens are found in a text.
    private static let addedTokenKeys = KnownNames(
        harmless: ["special"],
        changing: [
            "lstrip": [.bool(false)], "normalized": [.bool(false)], "rstrip": [.bool(false)],
            "single_word": [.bool(false)],
        ])

    /// All ids must be below this number. The program needs memory for all ids up to the largest, so a damaged file
    /// could otherwise use up the memory.
    static let idLimit = 1 << 24

    /// The bytes of all pieces, end to end.
    var bytes: [UInt8] = []
    var vocabulary: [(range: Range<Int>, id: Int)] = []
    var addedTokens: [AddedToken] = []
    /// The left part and the right part of each merge, as ranges of `mergeBytes`.
    var merges: [(left: Range<Int>, right: Range<Int>)] = []
    var mergeBytes: [UInt8] = []
    /// The keys at the top level of the file, except its model and added tokens.
    private var top: [(key: String, value: JSONValue)] = []
    /// The keys of the model in the file, except `vocab` and `merges`.
    private var model: [(key: String, value: JSONValue)] = []
    /// The subset of the keys `vocab` and `merges` that the model in the file has.
    private var parts: Set<String> = []
    /// The keys in the file that this program does not know.
    var unknown = UnknownNames()
    private let skipsPieces: Bool

    init(skippingPieces: Bool = false) { skipsPieces = skippingPieces }

    // MARK: Reading

    mutating func read(_ text: UnsafeBufferPointer<UInt8>) throws(JSONSyntaxError) {
        var scanner = JSONScanner(text)
        try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
            switch String(decoding: key, as: UTF8.self) {
            case "added_tokens":
                try TokenizerJSON.expect("[", "added_tokens", &scanner)
                try scanner.readArray { (scanner) throws(JSONSyntaxError) in
                    try readAddedToken(&scanner)
                }
            case "model": try readModel(&scanner)
            case let name: top.append((name, try JSONValue(from: &scanner)))
            }
        }
        try scanner.expectEnd()
    }

    /// Throws if the value of `key`, which is next in `scanner`, does not begin with `bracket`.
    private static func expect(
        _ bracket: Character, _ key: String, _ scanner: inout JSONScanner
    ) throws(JSONSyntaxError) {
        guard let next = scanner.peek(), next != bracket.asciiValue else { return }
        let value = try JSONValue(from: &scanner)
        throw scanner.failure(
            "\(key) is \(value.excerpt), expected \(bracket == "[" ? "a list" : "an object")")
    }

    private mutating func readAddedToken(_ scanner: inout JSONScanner) throws(JSONSyntaxError) {
        var token = AddedToken()
        try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
            switch String(decoding: key, as: UTF8.self) {
            case "content": try scanner.readString(into: &token.content)
            case "id": token.id = try scanner.readScalar().integer ?? -1
            case let name: token.rest.append((name, try JSONValue(from: &scanner)))
            }
        }
        addedTokens.append(token)
    }

    private mutating func readModel(_ scanner: inout JSONScanner) throws(JSONSyntaxError) {
        var piece: [UInt8] = []
        try TokenizerJSON.expect("{", "model", &scanner)
        try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
            let name = String(decoding: key, as: UTF8.self)
            if ["vocab", "merges"].contains(name) { parts.insert(name) }
            switch name {
            case "vocab" where skipsPieces, "merges" where skipsPieces: try scanner.skipValue()
            case "vocab":
                try TokenizerJSON.expect("{", "model.vocab", &scanner)
                try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
                    guard let id = try scanner.readScalar().integer,
                        (0..<TokenizerJSON.idLimit).contains(id)
                    else {
                        throw scanner.failure(
                            "a piece has an id that is not an integer from 0 to 2^24 - 1")
                    }
                    vocabulary.append((bytes.count..<bytes.count + key.count, id))
                    for byte in key.indices { bytes.append(key[byte]) }
                }
            case "merges":
                try TokenizerJSON.expect("[", "model.merges", &scanner)
                try scanner.readArray { (scanner) throws(JSONSyntaxError) in
                    try readMerge(&scanner, &piece)
                }
            default: model.append((name, try JSONValue(from: &scanner)))
            }
        }
    }

    /// Reads one merge. Older files write it as `"a b"`, newer files as `["a", "b"]`.
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

    /// Throws if the tokenizer would compute other ids than Gemma's. Adds keys that this program does not know to
    /// `unknown`.
    mutating func checkKind() throws(Vocabulary.Problem) {
        let (top, model) = (JSONObject(self.top), JSONObject(self.model))
        try check(top, TokenizerJSON.topKeys)
        try check(model, TokenizerJSON.modelKeys, place: "model.")
        try checkAddedTokens()
        guard model["type"]?.string == "BPE", model["byte_fallback"]?.bool == true else {
            throw Vocabulary.Problem(
                reason:
                    "its model has type \(model["type"]?.excerpt ?? "missing") and byte_fallback \(model["byte_fallback"]?.excerpt ?? "missing"), expected \"BPE\" and true",
                isAboutKind: true)
        }
        for part in ["vocab", "merges"] where !parts.contains(part) {
            throw Vocabulary.Problem(reason: "its model has no \(part)")
        }
        try checkNormalizer(top["normalizer"])
        try checkPreTokenizer(top["pre_tokenizer"])
        try checkPostProcessor(top["post_processor"])
    }

    private mutating func check(
        _ object: JSONObject, _ keys: KnownNames, place: String = ""
    ) throws(Vocabulary.Problem) {
        do {
            try keys.check(object, place: place, unknown: &unknown)
        } catch {
            throw Vocabulary.Problem(
                reason: "\(error.reason): the ids would differ from Gemma's", isAboutKind: true)
        }
    }

    private mutating func checkAddedTokens() throws(Vocabulary.Problem) {
        var others = UnknownNames()
        for token in addedTokens {
            do {
                try TokenizerJSON.addedTokenKeys.check(
                    JSONObject(token.rest), unknown: &others)
            } catch {
                let name = String(decoding: token.content, as: UTF8.self)
                throw Vocabulary.Problem(
                    reason:
                        "added token '\(name)': \(error.reason) (save it as an AddedToken with \(error.key)=False): the ids would differ from Gemma's",
                    isAboutKind: true)
            }
        }
        // The warning names each unknown key once, even if several tokens have it.
        var seen: Set<ExactString> = []
        for name in others.names where seen.insert(ExactString(name)).inserted {
            unknown.append("added_tokens.\(name)")
        }
    }

    /// Returns the steps of a normalizer, pre-tokenizer or post-processor. The steps of a `Sequence` are in the array
    /// under its key `list`. Any other value is one step.
    private func steps(_ value: JSONValue?, _ list: String) -> [JSONValue] {
        guard let value, value != .null else { return [] }
        guard value.object?["type"]?.string == "Sequence", let own = value.object?[list]?.array
        else { return [value] }
        return own.flatMap { steps($0, list) }
    }

    /// Returns `value` for a message: its JSON if that is short, otherwise its type and the types of its steps.
    private func words(_ value: JSONValue?) -> String {
        guard let value else { return "missing" }
        let text = value.excerpt
        guard let type = value.object?["type"]?.string, text.hasPrefix("an object") else {
            return text
        }
        let own = ["normalizers", "pretokenizers", "processors"].lazy.compactMap {
            value.object?[$0]?.array
        }.first
        if let single = value.object?["single"]?.array {
            return "a \(type) of \(JSONValue.array(single).excerpt)"
        }
        let kinds = (own ?? []).map { $0.object?["type"]?.string ?? "?" }.joined(separator: ", ")
        return kinds.isEmpty ? "of type \(type)" : "a \(type) of \(kinds)"
    }

    private func checkNormalizer(_ value: JSONValue?) throws(Vocabulary.Problem) {
        let rules = steps(value, "normalizers").map(\.object)
        guard rules.count == 1, let rule = rules[0], rule["type"]?.string == "Replace",
            rule["pattern"]?.object?["String"]?.string == " ",
            rule["content"]?.string == "\u{2581}"
        else {
            throw Vocabulary.Problem(
                reason:
                    "its normalizer is \(words(value)), expected Gemma's, which replaces each space by U+2581 and does nothing else",
                isAboutKind: true)
        }
    }

    /// Throws if the pre-tokenizer is not Gemma's, which splits at spaces. It has no effect, because the normalizer
    /// has already replaced all spaces.
    private func checkPreTokenizer(_ value: JSONValue?) throws(Vocabulary.Problem) {
        for step in steps(value, "pretokenizers") {
            guard step.object?["type"]?.string == "Split",
                step.object?["pattern"]?.object?["String"]?.string == " ",
                [nil, .bool(false)].contains(step.object?["invert"])
            else {
                throw Vocabulary.Problem(
                    reason:
                        "its pre_tokenizer is \(words(step)), expected none or Gemma's, which splits at spaces",
                    isAboutKind: true)
            }
        }
    }

    /// Throws if the post-processor does more than Gemma's, which puts `<bos>` before a text. This program puts
    /// `<bos>` there itself.
    private func checkPostProcessor(_ value: JSONValue?) throws(Vocabulary.Problem) {
        var addsBOS = false
        for step in steps(value, "processors") {
            let type = step.object?["type"]?.string
            // A ByteLevel step only changes offsets, which this program does not use.
            if type == "ByteLevel" { continue }
            let single = (step.object?["single"]?.array ?? []).map { part -> String? in
                part.object?["SpecialToken"]?.object?["id"]?.string
                    ?? part.object?["Sequence"]?.object?["id"]?.string.map { "$\($0)" }
            }
            guard type == "TemplateProcessing", [["<bos>", "$A"], ["$A"]].contains(single) else {
                throw Vocabulary.Problem(
                    reason:
                        "its post_processor is \(words(step)), expected none or Gemma's, which puts <bos> before a text and nothing behind it",
                    isAboutKind: true)
            }
            guard single.count == 1 || !addsBOS else {
                throw Vocabulary.Problem(
                    reason: "its post_processor puts <bos> before a text more than once",
                    isAboutKind: true)
            }
            addsBOS = addsBOS || single.count == 2
            let ids = step.object?["special_tokens"]?.object?["<bos>"]?.object?["ids"]?.array
            let bos = addedTokens.first { $0.content == Array("<bos>".utf8) }?.id
            guard single.count == 1 || ids == nil || bos == nil || ids == [.integer(bos!)] else {
                throw Vocabulary.Problem(
                    reason:
                        "its post_processor has the ids \(JSONValue.array(ids!).excerpt) for <bos>, but the added token <bos> has id \(bos!)"
                )
            }
        }
    }

    /// Returns the table of merges, with ids instead of pieces. Throws if a part or the result of a merge is not in
    /// the vocabulary.
    func mergeTable(_ vocabulary: Vocabulary) throws(Vocabulary.Problem) -> MergeTable {
        var table = MergeTable(capacity: merges.count)
        for (rank, merge) in merges.enumerated() {
            // The bytes of the two parts are adjacent in `mergeBytes`. So the bytes of the result are one range too.
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
