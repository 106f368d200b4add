// Reads `tokenizer.model`, a SentencePiece model, and computes the merges of the equivalent fast tokenizer of Hugging
// Face.
// Format: google/sentencepiece, src/sentencepiece_model.proto.
// Order of merges: transformers, convert_slow_tokenizer.py, generate_merges.

import ByteJSON
import Files

extension GemmaTokenizer {
    /// Reads the file at `path`. Throws `FileError` or `UnexpectedFileError`. Throws `TokenizerError` if the file is
    /// damaged or describes a tokenizer that is not Gemma's.
    package init(sentencePieceModel path: String) throws {
        self = try GemmaTokenizer.read(path) { try GemmaTokenizer($0) }
    }

    /// Reads the whole file at `path`, because it is small. Returns the id of `<bos>` and the added tokens. Throws
    /// errors of the same types as `init(sentencePieceModel:)`.
    static func check(sentencePieceModel path: String) throws -> Findings {
        let model = try read(path) { $0 }
        let bos = Array("<bos>".utf8)
        return Findings(
            bos: model.pieces.firstIndex { model.bytes[$0.range].elementsEqual(bos) },
            added: Set(
                model.pieces.filter(\.isAdded).map {
                    ExactString(String(decoding: model.bytes[$0.range], as: UTF8.self))
                }))
    }

    /// Reads the model at `path` and returns `make(model)`. The errors name the file.
    private static func read<Made>(
        _ path: String, _ make: (SentencePieceModel) throws -> Made
    ) throws -> Made {
        let file = try MappedFile(path: path)
        do {
            return try make(
                try file.withBytes { try SentencePieceModel(UnsafeRawBufferPointer($0)) })
        } catch let problem as Vocabulary.Problem {
            throw file.explained(TokenizerError(problem, path: path), as: .sentencePiece)
        }
    }

    private init(_ model: SentencePieceModel) throws(Vocabulary.Problem) {
        let pieces = model.pieces.enumerated().map { (range: $1.range, id: $0) }
        let vocabulary = try Vocabulary(bytes: model.bytes, pieces: pieces)
        var addedTokens = AddedTokens()
        for (id, piece) in model.pieces.enumerated() where piece.isAdded {
            addedTokens.insert(model.bytes[piece.range], id: TokenID(id))
        }
        try self.init(
            vocabulary: vocabulary, merges: model.merges(vocabulary), addedTokens: addedTokens)
    }
}

/// The pieces of a SentencePiece model.
private struct SentencePieceModel {
    struct Piece {
        var range: Range<Int>
        var score: Float
        /// The type in the format: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte.
        var kind: UInt64

        /// Whether the piece is an added token: `<unk>`, a control token or a user-defined piece.
        var isAdded: Bool { (2...4).contains(kind) }
    }

    /// The maximum length of a piece in bytes; Gemma's longest has 93. There is a limit because the time to find the
    /// merges of a piece grows with the square of its length.
    private static let longestPiece = Vocabulary.longestPiece

    var bytes: [UInt8] = []
    var pieces: [Piece] = []

    /// Parses a `ModelProto`.
    init(_ data: UnsafeRawBufferPointer) throws(Vocabulary.Problem) {
        var (trainer, normalizer) = (Fields(), Fields())
        var reader = ProtobufReader(data)
        while let field = try reader.next() {
            switch (field.number, field.value) {
            case (1, .bytes(let piece)): try appendPiece(piece)
            case (2, .bytes(let spec)): try trainer.read(spec)
            case (3, .bytes(let spec)): try normalizer.read(spec)
            default: break
            }
        }
        respellTab()
        try SentencePieceModel.check(trainer, normalizer)
    }

    /// The fields of a `TrainerSpec` or `NormalizerSpec`, by field number. An integer field has its value, a text
    /// field its length in bytes.
    private struct Fields {
        private var numbers: [UInt64: UInt64] = [:]

        mutating func read(_ data: UnsafeRawBufferPointer) throws(Vocabulary.Problem) {
            var reader = ProtobufReader(data)
            while let field = try reader.next() {
                switch field.value {
                case .integer(let value): numbers[field.number] = value
                case .bytes(let text): numbers[field.number] = UInt64(text.count)
                default: break
                }
            }
        }

        subscript(number: UInt64, default fallback: UInt64) -> UInt64 {
            numbers[number] ?? fallback
        }
    }

    /// Throws if the model would compute other ids than Gemma's. A missing field has the default value of the format.
    private static func check(
        _ trainer: Fields, _ normalizer: Fields
    ) throws(Vocabulary.Problem) {
        let type = trainer[3, default: 1]
        guard type == 2 else {
            throw Vocabulary.Problem(
                reason:
                    "not a SentencePiece model of type BPE (its model_type is \(type), expected 2)")
        }
        for (name, value, expected) in [
            ("trainer_spec.treat_whitespace_as_suffix", trainer[24, default: 0], 0),
            ("trainer_spec.byte_fallback", trainer[35, default: 0], 1),
            ("normalizer_spec.add_dummy_prefix", normalizer[3, default: 1], 0),
            ("normalizer_spec.remove_extra_whitespaces", normalizer[4, default: 1], 0),
            ("normalizer_spec.escape_whitespaces", normalizer[5, default: 1], 1),
        ] as [(String, UInt64, UInt64)] where value != expected {
            throw Vocabulary.Problem(
                reason:
                    "\(name) is \(value != 0), expected \(expected != 0): the ids would differ from Gemma's",
                isAboutKind: true)
        }
        let rules = normalizer[2, default: 0]
        guard rules == 0 else {
            throw Vocabulary.Problem(
                reason:
                    "normalizer_spec.precompiled_charsmap has \(rules) bytes, expected none (normalization \"identity\"): the ids would differ from Gemma's",
                isAboutKind: true)
        }
    }

    private mutating func appendPiece(_ data: UnsafeRawBufferPointer) throws(Vocabulary.Problem) {
        var piece = Piece(range: bytes.count..<bytes.count, score: 0, kind: 1)
        var reader = ProtobufReader(data)
        while let field = try reader.next() {
            switch (field.number, field.value) {
            case (1, .bytes(let text)):
                guard text.count <= SentencePieceModel.longestPiece else {
                    throw Vocabulary.Problem(
                        reason:
                            "piece \(pieces.count) has \(text.count) bytes, more than \(SentencePieceModel.longestPiece)"
                    )
                }
                bytes.removeSubrange(piece.range)
                bytes += text
                piece.range = bytes.count - text.count..<bytes.count
            case (2, .fixed32(let bits)): piece.score = Float(bitPattern: bits)
            case (3, .integer(let kind)): piece.kind = kind
            default: break
            }
        }
        guard !piece.score.isNaN else {
            throw Vocabulary.Problem(reason: "piece \(pieces.count) has the score NaN")
        }
        pieces.append(piece)
    }

    /// If no piece is the tab character, gives the byte piece `<0x09>` the text of a tab, as the fast tokenizer does.
    private mutating func respellTab() {
        guard !pieces.contains(where: { bytes[$0.range].elementsEqual([9]) }),
            let tab = pieces.firstIndex(where: { bytes[$0.range].elementsEqual("<0x09>".utf8) })
        else { return }
        bytes.append(9)
        pieces[tab].range = bytes.count - 1..<bytes.count
    }

    /// Returns a merge for every way to split a piece into two pieces. The merges are ordered by:
    /// 1. the score of the piece, highest first
    /// 2. the length of the left part, longest first
    /// 3. the length of the right part, longest first
    /// 4. the id of the piece, lowest first
    func merges(_ vocabulary: Vocabulary) -> MergeTable {
        struct Split {
            var left: TokenID
            var right: TokenID
            var result: TokenID
            var score: Float
            var leftLength: Int32
            var rightLength: Int32
        }
        var splits: [Split] = []
        splits.reserveCapacity(3 * pieces.count)
        bytes.withUnsafeBufferPointer { bytes in
            for (id, piece) in pieces.enumerated() {
                let text = bytes[piece.range]
                let length = scalarCount(text)
                let first = splits.count
                var leftLength: Int32 = 0
                for cut in text.indices.dropFirst() {
                    guard text[cut] & 0xC0 != 0x80 else { continue }  // within a character
                    leftLength += 1
                    guard
                        let left = vocabulary.id(
                            of: UnsafeBufferPointer(rebasing: text[..<cut])),
                        let right = vocabulary.id(of: UnsafeBufferPointer(rebasing: text[cut...]))
                    else { continue }
                    splits.append(
                        Split(
                            left: left, right: right, result: TokenID(id), score: piece.score,
                            leftLength: leftLength, rightLength: length - leftLength))
                }
                // As in generate_merges. Decides nothing, because the left parts of a piece differ in length.
                splits[first...].sort { ($0.left, $0.right) > ($1.left, $1.right) }
            }
        }
        // Swift's sort is stable, like Python's: it keeps the order of equal elements.
        splits.sort {
            ($0.score, $0.leftLength, $0.rightLength) > ($1.score, $1.leftLength, $1.rightLength)
        }
        var table = MergeTable(capacity: splits.count)
        for (rank, split) in splits.enumerated() {
            table.append(split.left, split.right, into: split.result, rank: rank)
        }
        return table
    }

    private func scalarCount(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> Int32 {
        text.reduce(0) { $1 & 0xC0 != 0x80 ? $0 + 1 : $0 }
    }
}

/// Reads the wire format of protocol buffers, field by field.
private struct ProtobufReader {
    enum Value {
        case integer(UInt64)
        case fixed32(UInt32)
        case bytes(UnsafeRawBufferPointer)
        case other
    }

    private let data: UnsafeRawBufferPointer
    private var position = 0

    init(_ data: UnsafeRawBufferPointer) {
        self.data = data
    }

    /// Returns the next field; nil at the end of the data. Throws if the data is damaged.
    mutating func next() throws(Vocabulary.Problem) -> (number: UInt64, value: Value)? {
        guard position < data.count else { return nil }
        let tag = try varint()
        switch tag & 7 {
        case 0: return (tag >> 3, .integer(try varint()))
        case 1:
            _ = try take(8)
            return (tag >> 3, .other)
        case 2: return (tag >> 3, .bytes(try take(try varint())))
        case 5:
            let bits = try take(4).loadUnaligned(as: UInt32.self)
            return (tag >> 3, .fixed32(UInt32(littleEndian: bits)))
        default: throw damaged()
        }
    }

    private mutating func varint() throws(Vocabulary.Problem) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            guard position < data.count else { throw damaged() }
            let byte = data[position]
            position += 1
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw damaged()
    }

    private mutating func take(_ count: UInt64) throws(Vocabulary.Problem) -> UnsafeRawBufferPointer
    {
        guard count <= UInt64(data.count - position) else { throw damaged() }
        defer { position += Int(count) }
        return UnsafeRawBufferPointer(rebasing: data[position..<position + Int(count)])
    }

    private func damaged() -> Vocabulary.Problem {
        Vocabulary.Problem(
            reason: "not a SentencePiece model (cut short or damaged at byte \(position))")
    }
}
