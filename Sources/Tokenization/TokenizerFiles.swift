// Finds, checks and reads the tokenizer of a checkpoint.

import Files

/// The tokenizer's files in a checkpoint's folder.
package enum TokenizerFiles {
    /// The possible names of a tokenizer's file. The program reads the first one that exists.
    package static let names = ["tokenizer.json", "tokenizer.model"]

    /// Returns the path of the tokenizer's file in `directory`: `tokenizer.json` if it exists, otherwise
    /// `tokenizer.model`. Throws `TokenizerError` if neither file exists.
    package static func file(in directory: String) throws(TokenizerError) -> String {
        let files = names.map { "\(directory)/\($0)" }
        guard let file = files.first(where: isListed) else {
            throw .noTokenizer(directory: directory)
        }
        return file
    }

    /// Reads the tokenizer in `directory`. Throws `FileError`, `UnexpectedFileError` or `TokenizerError`.
    package static func read(directory: String) throws -> any Tokenizer {
        try GemmaTokenizer(directory: directory)
    }

    /// Checks the tokenizer in `directory` and its companion files, without reading the pieces of `tokenizer.json`.
    /// Returns warnings, and the id of `<bos>`; nil if `tokenizer.json` has no such added token, or `tokenizer.model`
    /// has no such piece. Throws the errors of `read`, and `TokenizerError` if a companion file would change ids.
    package static func check(directory: String) throws -> (warnings: [String], bos: Int?) {
        let file = try file(in: directory)
        let found =
            file.hasSuffix(".json")
            ? try GemmaTokenizer.check(tokenizerJSON: file)
            : try GemmaTokenizer.check(sentencePieceModel: file)
        let companions = try TokenizerCompanions(
            directory: directory, tokenizer: file, added: found.added)
        return (found.warnings + companions.warnings, found.bos)
    }
}
