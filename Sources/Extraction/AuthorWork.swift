// One author's work in a worker.

import Corpus
import Hooks
import Planning
import RunFiles
import Tokenization

/// An author whose files are not all in place: what is missing, and the batches that it is made of.
final class AuthorWork {
    /// The worker's share of the author, with the author's documents.
    let assignment: WorkerTask.Assignment
    /// The files that are missing or changed.
    let missing: [OutputItem]
    /// The hooks of `missing`, in the plan's order.
    let hooks: [HookPoint]
    /// The documents' tokens, one sequence a document.
    let sequences: [TokenSequence]
    /// All batches of the author, of all ranks, as ranges of `sequences`.
    let batches: [Range<Int>]
    /// Whether another process has made the author's files meanwhile.
    var isDoneElsewhere = false

    init(
        _ assignment: WorkerTask.Assignment, _ missing: [OutputItem], _ hooks: [HookPoint],
        _ sequences: [TokenSequence], _ batches: [Range<Int>]
    ) {
        (self.assignment, self.missing, self.hooks) = (assignment, missing, hooks)
        (self.sequences, self.batches) = (sequences, batches)
    }

    var author: AuthorDocuments { assignment.author }
    /// The author's place in the plan's order.
    var number: Int { assignment.share.number }
}
