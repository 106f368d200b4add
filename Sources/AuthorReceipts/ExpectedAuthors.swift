// The authors that the receipts of a run can name.

import ByteJSON

/// The authors that receipts can name. A receipt that does not fit them is treated as damaged.
package struct ExpectedAuthors: Sendable {
    /// The place in the plan's order and the number of documents of each author, by name.
    var authors: [ExactString: (number: Int, documents: Int)] = [:]
    /// The largest number of tokens of a document.
    var columns = Int.max
    /// Whether receipts of other authors are impossible.
    var areAll = false

    /// Expects `authors`, whose documents have at most `columns` tokens. If `areAll`, receipts of other authors do not fit.
    /// Without arguments, every receipt fits.
    package init(
        authors: [ExactString: (number: Int, documents: Int)] = [:], columns: Int = .max,
        areAll: Bool = false
    ) {
        (self.authors, self.columns, self.areAll) = (authors, columns, areAll)
    }

    /// Whether `receipt` fits one of `authors`, or names another author and other authors are possible.
    package func canHave(_ receipt: AuthorReceipt) -> Bool {
        guard let author = authors[ExactString(receipt.author)] else { return !areAll }
        return receipt.number == author.number && receipt.tokens.count == author.documents
            && receipt.tokens.allSatisfy { $0 <= columns }
    }
}
