// Tests of the tokenizer's parts with the fixture's small vocabulary.

import ByteJSON
import TestSupport
import Testing

@testable import Tokenization

struct TinyTokenizerTests {
    private let tokenizers: [GemmaTokenizer]

    init() throws {
        tokenizers = try [
            // In order: tokenizer.json with merges as pairs, tokenizer.json with merges as "a b", tokenizer.model.
            GemmaTokenizer(directory: TestData.tiny + "/model"),
            GemmaTokenizer(directory: TestData.tiny + "/model-single"),
            GemmaTokenizer(sentencePieceModel: TestData.tiny + "/model/tokenizer.model"),
        ]
    }

    private func pieces(_ text: String, _ tokenizer: GemmaTokenizer) -> [String] {
        tokenizer.encode(text).map { String(decoding: tokenizer.piece($0), as: UTF8.self) }
    }

    /// Checks that the fixture's documents have the tokens of Hugging Face's tokenizer, as
    /// scripts/reference/oracle.py has recorded them.
    @Test func fixtureTokensAreTheOracles() throws {
        let authors = ["harbour", "orchard", "quarry works", "lantérne", "marsh-9"]
        for author in authors {
            let prefix = TestData.tiny + "/expected/sae__google_gemma-2-2b__"
            func load(_ kind: String) throws -> [JSONValue] {
                let bytes = try TestData.bytes("\(prefix)\(kind)__\(author).json")
                return try bytes.withUnsafeBufferPointer { try JSONValue(parsing: $0).array ?? [] }
            }
            let tokens = try load("tokens").map { ($0.array ?? []).map { $0.string ?? "" } }
            let texts = try load("full_texts").map { $0.string ?? "" }
            #expect(!texts.isEmpty && texts.count == tokens.count)
            for tokenizer in tokenizers {
                for (text, expected) in zip(texts, tokens) {
                    let found = Array(pieces(text, tokenizer).prefix(359))
                    let padded = found + Array(repeating: "<pad>", count: 359 - found.count)
                    // The expected tokens are those of Hugging Face's fast tokenizer. SentencePiece's own library
                    // gives others if the text itself contains U+2581.
                    #expect(padded.map { Array($0.utf8) } == expected.map { Array($0.utf8) })
                }
            }
        }
    }

    @Test func allFormsAgree() {
        for tokenizer in tokenizers {
            #expect(tokenizer.merges.count == tokenizers[0].merges.count)
            #expect(tokenizer.count == 640)
            #expect(tokenizer.pad == 0 && tokenizer.bos == 2)
        }
    }

    @Test func addedTokensAreCutOutOfTheRawText() {
        for tokenizer in tokenizers {
            #expect(pieces("<bos>x", tokenizer).first == "<bos>")
            #expect(pieces("\n\n\n", tokenizer) == ["\n\n\n"])
            // The longest added token at a position is used: five of the seven newlines, then two.
            #expect(pieces("\n\n\n\n\n\n\n", tokenizer) == ["\n\n\n\n\n", "\n\n"])
            #expect(pieces("<h1>", tokenizer) == ["<h1>"])
        }
    }

    @Test func unknownCharactersBecomeBytes() {
        for tokenizer in tokenizers {
            #expect(pieces("\u{1F701}", tokenizer) == ["<0xF0>", "<0x9F>", "<0x9C>", "<0x81>"])
            #expect(pieces("\u{0}", tokenizer) == ["<0x00>"])
        }
    }

    /// Checks that the ids are the same if a text is tokenized as a whole, word by word, or with words from a cache.
    @Test func wordsByThemselvesChangeNothing() {
        var random = SeededGenerator(5)
        let parts =
            [
                " ", "  ", "\u{2581}", "\n", "\n\n", "\t", "<bos>", "<h1>", "é", "e\u{301}",
                "\u{1F701}", "0", "…",
            ]
            + "the tide rose over pier and bell rang again orchard".split(separator: " ").map(
                String.init)
        for tokenizer in tokenizers {
            #expect(tokenizer.splitsAtSpaces)
            var whole = tokenizer
            whole.splitsAtSpaces = false
            var cache = WordCache()
            for _ in 0..<500 {
                let text = (0..<Int.random(in: 0...40, using: &random)).map { _ in
                    parts.randomElement(using: &random)!
                }.joined()
                let expected = whole.encode(text)
                #expect(tokenizer.encode(text) == expected, "\(text.debugDescription)")
                #expect(tokenizer.encode(text, &cache) == expected, "\(text.debugDescription)")
            }
        }
    }

    /// Checks that a cache still gives the right ids after it was full and was emptied.
    @Test func aFullCacheBeginsAnew() {
        let tokenizer = tokenizers[0]
        var cache = WordCache()
        for round in 0..<2 {
            for number in 0..<150_000 {
                let text = " \(number)"
                let ids = tokenizer.encode(text, &cache)
                if number % 5000 == round { #expect(ids == tokenizer.encode(text)) }
            }
        }
    }

    @Test func emptyTextHasNoTokens() {
        for tokenizer in tokenizers { #expect(tokenizer.encode("") == []) }
    }

    /// Checks that the time grows linearly with the length. A quadratic algorithm would take minutes.
    @Test(.timeLimit(.minutes(60))) func longTextsAreNoTrouble() {
        let text = String(
            repeating: "the tide rose over the pier and the bell rang again; ", count: 40_000)
        let ids = tokenizers[0].encode(text)
        #expect(ids.count > 100_000)
        let once = tokenizers[0].encode(String(repeating: "a", count: 1_000_000))
        #expect(!once.isEmpty)
    }

    @Test func truncatedFilesAreErrors() throws {
        let folder = try TemporaryFolder()
        let whole = try TestData.bytes(TestData.tiny + "/model/tokenizer.model")
        var refused = 0
        for count in stride(from: 1, to: whole.count, by: 97) {
            let path = try folder.write(whole[..<count], "tokenizer.model")
            do {
                _ = try GemmaTokenizer(sentencePieceModel: path)
            } catch let error as TokenizerError {
                #expect("\(error)".contains(path))
                refused += 1
            }
        }
        #expect(refused > 90)
    }

    // MARK: Hostile pieces

    /// Checks that a file is refused if a piece is not valid UTF-8. Such a piece would split the characters of texts.
    @Test(arguments: [
        Array(#""\ud83d""#.utf8), [0x22, 0xE2, 0x96, 0x22], [0x22, 0x81, 0x22],
        [0x22, 0xE2, 0x22] + Array(": 5001, ".utf8) + [0x22, 0x96, 0x81, 0x22],
    ])
    func piecesAreWholeCharacters(key: [UInt8]) throws {
        let folder = try TemporaryFolder()
        var json = try TestData.bytes(TestData.tiny + "/model/tokenizer.json")
        let mark = Array(#""vocab":"#.utf8)
        let start = try #require(
            json.indices.first { json[$0...].starts(with: mark) }.map { $0 + mark.count })
        let brace = try #require(json[start...].firstIndex(of: UInt8(ascii: "{")))
        json.insert(contentsOf: key + Array(": 5000, ".utf8), at: brace + 1)
        let error = #expect(throws: TokenizerError.self) {
            try GemmaTokenizer(tokenizerJSON: try folder.write(json, "tokenizer.json"))
        }
        #expect(error?.description.contains("is not valid UTF-8") == true)
    }

    /// Returns the bytes of the fixture's `tokenizer.model` with one more piece.
    private func model(with piece: [UInt8]) throws -> [UInt8] {
        func field(_ bytes: [UInt8]) -> [UInt8] {
            [0x0A, UInt8(bytes.count & 0x7F | 0x80), UInt8(bytes.count >> 7)] + bytes
        }
        return try TestData.bytes(TestData.tiny + "/model/tokenizer.model") + field(field(piece))
    }

    @Test func piecesOfAModelAreWholeAndNotLong() throws {
        let folder = try TemporaryFolder()
        func read(_ piece: [UInt8]) throws -> GemmaTokenizer {
            let path = try folder.write(try model(with: piece), "tokenizer.model")
            return try GemmaTokenizer(sentencePieceModel: path)
        }
        let long = [UInt8](repeating: UInt8(ascii: "a"), count: 256)
        #expect(try Array(read(long).piece(640)) == long)
        for (piece, word) in [
            (long + [0x61], "257 bytes"), ([0xE2, 0x96], "is not valid UTF-8"),
            ([0x96, 0x81], "is not valid UTF-8"),
        ] {
            let error = #expect(throws: TokenizerError.self) { try read(piece) }
            #expect(error?.description.contains(word) == true)
        }
    }

    /// Checks that NaN is refused as a score, because scores are sorted.
    @Test func scoresAreNumbers() throws {
        let folder = try TemporaryFolder()
        // Field 1 is the text of the piece, field 2 its score.
        let piece = [0x0A, 1, UInt8(ascii: "~"), 0x15, 0, 0, 0xC0, 0x7F] as [UInt8]
        let path = try folder.write(
            try TestData.bytes(TestData.tiny + "/model/tokenizer.model")
                + [0x0A, UInt8(piece.count)] + piece, "tokenizer.model")
        let error = #expect(throws: TokenizerError.self) {
            try GemmaTokenizer(sentencePieceModel: path)
        }
        #expect(error?.description.contains("has the score NaN") == true)
    }

    /// Checks merges whose keys collide in a hash table that multiplies by a fixed, known factor. The table's own
    /// factor is random, so the keys must not collide there.
    @Test func mergesThatWereMadeToCollideDoNot() {
        // The inverse of the factor modulo 2^64, times a small number, gives a key that hashes to this number.
        let factor: UInt64 = 0x9E37_79B9_7F4A_7C15
        var inverse = factor
        for _ in 0..<6 { inverse = inverse &* (2 &- factor &* inverse) }
        var keys: [(TokenID, TokenID)] = []
        var low: UInt64 = 0
        while keys.count < 30_000 {
            low += 1
            let key = low &* inverse
            guard key >> 63 == 0, key & 0x8000_0000 == 0 else { continue }
            keys.append((TokenID(key >> 32), TokenID(truncatingIfNeeded: key & 0x7FFF_FFFF)))
        }
        var table = MergeTable(capacity: keys.count)
        for (rank, key) in keys.enumerated() {
            table.append(key.0, key.1, into: TokenID(rank), rank: rank)
        }
        #expect(table.count == keys.count)
        #expect(keys.indices.allSatisfy { table.merge(keys[$0].0, keys[$0].1)?.rank == Int32($0) })
        #expect(table.longestSearch < 1000)
    }
}
