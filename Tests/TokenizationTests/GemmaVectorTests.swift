// Compares the ids and pieces of Gemma's tokenizer with recorded results of Hugging Face's fast tokenizer. The
// tokenizer is read from `tokenizer.json` and from `tokenizer.model`.

import ByteJSON
import TestSupport
import Testing

@testable import Tokenization

@Suite(.enabled(if: TestData.shared != nil, Comment(rawValue: TestData.skipReason)))
struct GemmaVectorTests {
    private static let folder = (TestData.shared ?? "") + "/tokenizer/gemma2"

    struct Vector {
        let id: Int
        let text: String
        let ids: [TokenID]
        let pieces: [String]
    }

    private static func vectors() throws -> [Vector] {
        try TestData.bytes(folder + "/vectors.jsonl").split(separator: 0x0A).map { line in
            let value = try Array(line).withUnsafeBufferPointer { try JSONValue(parsing: $0) }
            let object = try #require(value.object)
            return Vector(
                id: try #require(object["id"]?.integer),
                text: try #require(object["text"]?.string),
                ids: try #require(object["ids"]?.array).compactMap(\.integer).map(TokenID.init),
                pieces: try #require(object["tokens"]?.array).compactMap(\.string))
        }
    }

    @Test(arguments: ["tokenizer.json", "tokenizer.model"])
    func idsAndPiecesEqualTheFastTokenizers(file: String) throws {
        let path = "\(Self.folder)/\(file)"
        let tokenizer =
            try file.hasSuffix("json")
            ? GemmaTokenizer(tokenizerJSON: path) : GemmaTokenizer(sentencePieceModel: path)
        let vectors = try Self.vectors()
        #expect(vectors.count == 469)
        #expect(tokenizer.count == 256_000)
        #expect(tokenizer.splitsAtSpaces)
        var cache = WordCache()
        for vector in vectors {
            let ids = tokenizer.encode(vector.text, &cache)
            #expect(ids == vector.ids, "vector \(vector.id)")
            // Pieces are compared as bytes, because Swift's strings are equal even if their Unicode forms differ.
            let pieces = ids.map { Array(tokenizer.piece($0)) }
            #expect(pieces == vector.pieces.map { Array($0.utf8) }, "vector \(vector.id)")
        }
    }

    @Test func bothFormsHaveTheSameMerges() throws {
        let json = try GemmaTokenizer(tokenizerJSON: Self.folder + "/tokenizer.json")
        let model = try GemmaTokenizer(sentencePieceModel: Self.folder + "/tokenizer.model")
        #expect(json.merges.count == 580_604)
        #expect(json.merges == model.merges)
    }
}
