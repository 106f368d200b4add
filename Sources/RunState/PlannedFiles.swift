// The output files of a run: the part of the plan that the state folder needs.

import Hooks
import RunFiles

/// The output files of one run.
package struct PlannedFiles: Sendable {
    /// An author of the run.
    package struct Author: Sendable {
        /// The author's name as the corpus spells it.
        let name: String
        /// The number of the author's documents.
        let documents: Int

        /// Creates the author `name` with `documents` documents.
        package init(name: String, documents: Int) {
            (self.name, self.documents) = (name, documents)
        }
    }

    /// The path of `save_dir`.
    let saveDirectory: String
    /// The model's label, not encoded.
    let label: String
    /// The names of the files.
    let naming: OutputNaming
    /// The hooks whose features are stored.
    let hooks: [HookPoint]
    /// The files that each hook has: dense, sparse or both.
    let format: StorageFormat
    /// The authors, in the plan's order.
    let authors: [Author]
    /// The second dimension of the output arrays: the largest number of tokens of a document, without `<bos>`.
    let columns: Int

    /// Describes the output files of a run. Each author has the activations at `hooks` in `format`, metrics, tokens
    /// and texts.
    package init(
        saveDirectory: String, label: String, naming: OutputNaming, hooks: [HookPoint],
        format: StorageFormat, authors: [Author], columns: Int
    ) {
        (self.saveDirectory, self.label, self.naming) = (saveDirectory, label, naming)
        (self.hooks, self.format) = (hooks, format)
        (self.authors, self.columns) = (authors, columns)
    }

    /// The files of each author.
    var items: [OutputItem] { OutputItem.items(of: hooks, in: format) }

    /// The names of all files, author by author.
    var names: [String] {
        authors.flatMap { author in items.map { $0.name(naming, author: author.name) } }
    }

    /// The spelling of the label in this version, and the spelling in earlier versions if it differs.
    var spellings: [OutputNaming] {
        let (today, earlier) = (
            OutputNaming(label: label), OutputNaming(earlierSpellingOf: label)
        )
        return today == earlier ? [today] : [today, earlier]
    }
}
