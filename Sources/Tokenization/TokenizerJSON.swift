// Reading `tokenizer.json`, the form of Hugging Face's fast tokenizers.
// Format: huggingface/tokenizers, tokenizers/src/tokenizer/serialization.rs and models/bpe/serialization.rs.

import ByteJSON
import Files

extension GemmaTokenizer {
    /// Reads the file at `path`. Throws `FileError`, `UnexpectedFileError`, or `TokenizerError` where it is damaged or
    /// describes another tokenizer than Gemma's.
    public init(tokenizerJSON path: String) throws {
        self = try GemmaTokenizer.read(path, TokenizerJSON()) { try GemmaTokenizer($0) }
    }

    /// Reads of the file at `path` all but its pieces and merges, and gives what is to be said of it. Throws as reading
    /// the whole does.
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

    /// Reads the file at `path` into `contents` and makes something of it.
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
        // Added tokens may be missing from the model's vocabulary; they are pieces all the same.
        let modelOnly = try Vocabulary(bytes: contents.bytes, pieces: contents.vocabulary)
        var (bytes, pieces) = (contents.bytes, contents.vocabulary)
        var addedTokens = AddedTokens()
        // A token that is no piece gets the next free id from the tokenizers library, whatever the file says.
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
                            "added token '\(name)' has id \(token.id), but the next that is free is \(nextID), which Hugging Face's tokenizers give it"
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

/// What a `tokenizer.json` says, as far as it matters here.
private struct TokenizerJSON {
    struct AddedToken {
        var content: [UInt8] = []
        var id = -1
        /// The rest of what its entry says.
        var rest: [(key: String, value: JSONValue)] = []
    }

    /// Keys of the file's top.
    private static let topKeys = KnownNames(
        used: ["added_tokens", "model", "normalizer", "post_processor", "pre_tokenizer"],
        // Texts are cut and padded by this program; the decoder makes text of ids.
        harmless: ["decoder", "padding", "truncation", "version"])
    /// Keys of the model beside its pieces and merges.
    private static let modelKeys = KnownNames(
        used: ["byte_fallback", "type"],
        // Every byte has a piece, so that nothing is unknown.
        harmless: ["fuse_unk", "unk_token"],
        changing: [
            "continuing_subword_prefix": ["", .null], "dropout": [0, .null],
            "end_of_word_suffix": ["", .null], "ignore_merges": [.bool(false), .null],
        ])
    /// Keys of an added token beside its content and id. Another value would ask for another algorithm.
    private static let addedTokenKeys = KnownNames(
        harmless: ["special"],
        changing: [
            "lstrip": [.bool(false)], "normalized": [.bool(false)], "rstrip": [.bool(false)],
            "single_word": [.bool(false)],
        ])

    /// Ids beyond this would only be a way of asking for memory.
    static let idLimit = 1 << 24

    /// The bytes of all pieces.
    var bytes: [UInt8] = []
    var vocabulary: [(range: Range<Int>, id: Int)] = []
    var addedTokens: [AddedToken] = []
    /// Both parts of each merge, as ranges of `mergeBytes`.
    var merges: [(left: Range<Int>, right: Range<Int>)] = []
    var mergeBytes: [UInt8] = []
    /// The file's top, without its model and added tokens.
    private var top: [(key: String, value: JSONValue)] = []
    /// The model, without its pieces and merges.
    private var model: [(key: String, value: JSONValue)] = []
    /// Which of its pieces and merges the model has.
    private var parts: Set<String> = []
    /// Keys that are not known.
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

    /// Fails where the value of `key`, which is next, does not begin with `bracket`.
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
                    else { throw scanner.failure("a piece whose id is not a number below 2^24") }
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

    /// Refuses tokenizers that work otherwise than Gemma's, and lists the keys that are not known.
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
                reason: "\(error.reason): the ids would be others than Gemma's", isAboutKind: true)
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
                        "added token '\(name)': \(error.reason) (save it as an AddedToken with \(error.key)=False): the ids would be others than Gemma's",
                    isAboutKind: true)
            }
        }
        // Once each, however many tokens have them.
        var seen: Set<ExactString> = []
        for name in others.names where seen.insert(ExactString(name)).inserted {
            unknown.append("added_tokens.\(name)")
        }
    }

    /// The steps of a normalizer or the like, `list` being where one of several has them.
    private func steps(_ value: JSONValue?, _ list: String) -> [JSONValue] {
        guard let value, value != .null else { return [] }
        guard value.object?["type"]?.string == "Sequence", let own = value.object?[list]?.array
        else { return [value] }
        return own.flatMap { steps($0, list) }
    }

    /// `value` where it is short, else its kind.
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
                    "its normalizer is \(words(value)), expected Gemma's, which replaces each space by U+2581 and does no more",
                isAboutKind: true)
        }
    }

    /// Gemma's splits at spaces, of which the normalizer leaves none.
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

    /// Gemma's puts `<bos>` before a text, as this program does by itself.
    private func checkPostProcessor(_ value: JSONValue?) throws(Vocabulary.Problem) {
        var addsBOS = false
        for step in steps(value, "processors") {
            let type = step.object?["type"]?.string
            // What it trims are offsets, which nobody looks at.
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
                        "its post_processor has \(JSONValue.array(ids!).excerpt) for <bos>, which is the added token \(bos!)"
                )
            }
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
