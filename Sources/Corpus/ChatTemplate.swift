// Detects documents that begin with a marker of Gemma's chat template. The program puts `<bos>` before every
// document, so a document that begins with `<bos>` gets two.

/// Detects the markers with which Gemma's chat template begins a text.
package enum ChatTemplate {
    private static let markers = ["<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"]

    /// Returns whether `text` begins with `<bos>`, `<eos>` or a turn marker. Ignores white space and invisible
    /// characters before the marker.
    package static func begins(_ text: String) -> Bool {
        let visible = text.unicodeScalars.drop {
            $0.properties.isWhitespace || $0.properties.generalCategory == .format
        }
        return visible.first == "<"
            && markers.contains { visible.starts(with: $0.unicodeScalars) }
    }

    /// Returns a warning if documents of `authors` begin with a marker of the chat template; nil if no document does.
    package static func warning(_ authors: [AuthorDocuments]) -> String? {
        let documents = authors.lazy.flatMap(\.documents)
        let templated = documents.filter { begins($0.text) }
        guard let first = templated.map(\.line).min() else { return nil }
        let count = authors.reduce(0) { $0 + $1.documents.count }
        return
            "\(templated.count) of \(count) documents begin with <bos> or a turn marker (the first is on line \(first)), as if a chat template was applied; the program keeps these markers and puts one more <bos> before each document; if you do not want that, remove the markers from the corpus"
    }

    /// Returns a warning if `prefix` begins with a marker of the chat template; nil if it does not.
    package static func warning(prefix: String) -> String? {
        begins(prefix)
            ? "--prefix begins with <bos> or a turn marker; the program keeps this marker and puts one more <bos> before it; if you do not want that, remove the marker from --prefix"
            : nil
    }
}
