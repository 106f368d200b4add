// The authors that can have receipts in a run.

import ByteJSON

/// The authors that can have receipts. A receipt that does not fit these authors is treated as damaged.
package struct ExpectedAuthors: Sendable {
    /// By the author's name: the index of the author in the plan's order, and the number of the author's documents.
    var authors: [ExactString: (number: Int, documents: Int)] = [:]
    /// The largest number of tokens of a document.
    var columns = Int.max
    /// Whether `authors` are all authors of the run. Then receipts of other authors are refused.
    var areAll = false

    /// Expects receipts of `authors`, whose documents have at most `columns` tokens. If `areAll` is true, refuses
    /// receipts of other authors. Without arguments, accepts every receipt.
    package init(
        authors: [ExactString: (number: Int, documents: Int)] = [:], columns: Int = .max,
        areAll: Bool = false
    ) {
        (self.authors, self.columns, self.areAll) = (authors, columns, areAll)
    }

    /// Whether `receipt` is accepted. If `authors` has its author, the numbers must fit the author. Otherwise,
    /// `areAll` must be false.
    package func canHave(_ receipt: AuthorReceipt) -> Bool {
        guard let author = authors[ExactString(receipt.author)] else { return !areAll }
        return receipt.number == author.number && receipt.tokens.count == author.documents
            && receipt.tokens.allSatisfy { $0 <= columns }
    }
}
