// Recognises texts to which Gemma's chat template has been applied. The program puts <bos> in front of every text, so a text
// that already begins with <bos> has two.

/// The markers that Gemma's chat template puts at the front of a text.
public enum ChatTemplate {
    private static let markers = ["<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"]

    /// Returns whether `text` begins with `<bos>`, `<eos>` or a turn marker. White space and invisible characters before it are
    /// ignored.
    public static func begins(_ text: String) -> Bool {
        let visible = text.unicodeScalars.drop {
            $0.properties.isWhitespace || $0.properties.generalCategory == .format
        }
        return visible.first == "<"
            && markers.contains { visible.starts(with: $0.unicodeScalars) }
    }

    /// Returns a warning about the documents of `authors` that begin with such a marker; nil if there are none.
    public static func warning(_ authors: [AuthorDocuments]) -> String? {
        let documents = authors.lazy.flatMap(\.documents)
        let templated = documents.filter { begins($0.text) }
        guard let first = templated.map(\.line).min() else { return nil }
        let count = authors.reduce(0) { $0 + $1.documents.count }
        return
            "\(templated.count) of \(count) documents begin with <bos> or a turn marker (the first: line \(first)), as after applying a chat template; they are used unchanged, after the <bos> that every document gets"
    }

    /// Returns a warning if `prefix` begins with such a marker; nil if it does not.
    public static func warning(prefix: String) -> String? {
        begins(prefix)
            ? "--prefix begins with <bos> or a turn marker; it is used unchanged, after the <bos> that every document gets"
            : nil
    }
}
