// The work that a worker has to do for one author.

import Corpus
import Hooks
import Planning
import RunFiles
import Tokenization

/// An author whose files are not all in place, with the missing files and the batches that these files need.
final class AuthorWork {
    /// The worker's share of the author, with the author's documents.
    let assignment: WorkerTask.Assignment
    /// The files that are missing or changed.
    let missing: [OutputItem]
    /// The hooks of `missing`, in the plan's order.
    let hooks: [HookPoint]
    /// The tokens of the author's documents, one sequence for each document.
    let sequences: [TokenSequence]
    /// All batches of the author, of all ranks, as ranges of `sequences`.
    let batches: [Range<Int>]
    /// Whether another process has completed the author's files since this work began.
    var isDoneElsewhere = false

    init(
        _ assignment: WorkerTask.Assignment, _ missing: [OutputItem], _ hooks: [HookPoint],
        _ sequences: [TokenSequence], _ batches: [Range<Int>]
    ) {
        (self.assignment, self.missing, self.hooks) = (assignment, missing, hooks)
        (self.sequences, self.batches) = (sequences, batches)
    }

    var author: AuthorDocuments { assignment.author }
    /// The index of the author in the plan.
    var number: Int { assignment.share.number }
}
