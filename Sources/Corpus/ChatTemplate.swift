// Texts that have been put through Gemma's chat template, which the tokenizer then gets a second time.

/// What Gemma's chat template puts at the front of a text.
public enum ChatTemplate {
    private static let markers = ["<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"]

    /// Whether `text` begins with `<bos>`, `<eos>` or a turn marker, behind white space or not.
    public static func begins(_ text: String) -> Bool {
        let visible = text.unicodeScalars.drop {
            $0.properties.isWhitespace || $0.properties.generalCategory == .format
        }
        return visible.first == "<"
            && markers.contains { visible.starts(with: $0.unicodeScalars) }
    }

    /// A sentence on the documents of `authors` that begin so; nil where none does.
    public static func warning(_ authors: [AuthorDocuments]) -> String? {
        let documents = authors.lazy.flatMap(\.documents)
        let templated = documents.filter { begins($0.text) }
        guard let first = templated.map(\.line).min() else { return nil }
        let count = authors.reduce(0) { $0 + $1.documents.count }
        return
            "\(templated.count) of \(count) documents begin with <bos> or a turn marker (the first: line \(first)), as texts that a chat template was applied to; they are taken as they are, behind the <bos> that every document gets"
    }

    /// The same of a prefix.
    public static func warning(prefix: String) -> String? {
        begins(prefix)
            ? "--prefix begins with <bos> or a turn marker; it is taken as it is, behind the <bos> that every document gets"
            : nil
    }
}
