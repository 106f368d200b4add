// Fuzz targets for the two file formats of Gemma's tokenizer: tokenizer.json and SentencePiece.

import TestSupport

@testable import Tokenization

extension FuzzTarget {
    static let tokenizers = [tokenizerJSON, sentencePiece]

    private static let tokenizerJSON = FuzzTarget(
        "tokenizer-json",
        dictionary: jsonWords + [
            "added_tokens", "normalizer", "model", "vocab", "merges", "byte_fallback", "content",
            "<bos>",
            "single_word", "lstrip", "rstrip", "normalized", "Replace", "pattern", "\u{2581}",
            "<0x0A>",
        ]
    ) {
        try ["model", "model-single"].map {
            try TestData.bytes("\(TestData.tiny)/\($0)/tokenizer.json")
        }
    } body: { input in
        checkTokenizer(try GemmaTokenizer(tokenizerJSON: Workspace.file(input)))
    }

    private static let sentencePiece = FuzzTarget(
        "sentencepiece", dictionary: ["<bos>", "<pad>", "<unk>", "\u{2581}", "<0x09>", "\t"]
    ) {
        [try TestData.bytes("\(TestData.tiny)/model/tokenizer.model")]
    } body: { input in
        checkTokenizer(try GemmaTokenizer(sentencePieceModel: Workspace.file(input)))
    }
}

/// Tokenizes some texts with a tokenizer that was read from an input, and checks the token ids.
private func checkTokenizer(_ tokenizer: GemmaTokenizer) {
    var whole = tokenizer
    whole.splitsAtSpaces = false
    for text in [
        "", " ", "The tide  turned,\n\n\tand <bos><pad> \u{2581}so did I.", "e\u{301}é 🙂\u{0}漢字 ",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        let ids = tokenizer.encode(text)
        check(ids.allSatisfy { (0..<tokenizer.count).contains(Int($0)) }, "an invalid ID")
        check(ids.isEmpty == text.isEmpty, "'\(text)' has \(ids.count) tokens")
        check(whole.encode(text) == ids, "splitting at spaces changes '\(text)'")
        for id in ids {
            check(
                String(validating: tokenizer.piece(id), as: UTF8.self) != nil,
                "piece \(id) is not valid UTF-8")
        }
    }
}
