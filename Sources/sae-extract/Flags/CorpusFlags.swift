// The flags of the corpus.

import ArgumentParser
import Corpus
import Planning

/// The flags of the corpus: which file or dataset is read, and which of its records are used.
struct CorpusFlags: ParsableArguments {
    @Option(
        name: .customLong("data_path"),
        help: ArgumentHelp(
            "The corpus: JSON records, one per line (JSONL) or in one JSON array; plain, gzip or zstd. - means standard input. (default: from the Hub)",
            valueName: "file"), completion: .file())
    var path: String?

    @Option(
        name: .customLong("data_repo"),
        help: ArgumentHelp(
            "The dataset on the Hub to read if --data_path is not given. Only its split train is read.",
            valueName: "id"))
    var repository = RunOptions().dataRepository

    @Option(
        name: .customLong("data_revision"),
        help: ArgumentHelp("Branch, tag or commit of the dataset.", valueName: "revision"))
    var revision = RunOptions().dataRevision

    @Option(
        name: .customLong("n_docs"),
        help: ArgumentHelp(
            "Stop after this many accepted documents, over all authors.", valueName: "n"))
    var limit: Int?

    @Option(
        name: .customLong("n_docs_per_author"),
        help: ArgumentHelp("Maximum number of documents of one author.", valueName: "n"))
    var perAuthor = Selection().documentsPerAuthor

    @Option(
        name: .customLong("min_length_doc"),
        help: ArgumentHelp("Minimum number of words of a document.", valueName: "n"))
    var minimumWords = Selection().minimumWords

    @Option(
        name: .customLong("exclude_authors"), parsing: .upToNextOption,
        help: ArgumentHelp("Authors to leave out.", valueName: "author ..."))
    var excluded: [String] = []

    @Option(
        name: .customLong("include_authors"), parsing: .upToNextOption,
        help: ArgumentHelp("Authors to use; all others are left out.", valueName: "author ..."))
    var included: [String] = []

    @Option(
        name: .customLong("author_field"),
        help: ArgumentHelp("The key of the author's name in a record.", valueName: "key"))
    var authorField = Selection().authorField

    @Option(
        name: .customLong("text_field"),
        help: ArgumentHelp("The key of the text in a record.", valueName: "key"))
    var textField = Selection().textField
}
