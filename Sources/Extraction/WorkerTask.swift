// The part of a plan that one worker process carries out. The parent writes it to the standard input of the worker.

import CUDA
import Corpus
import Files
import FoundationEssentials
import Planning
import RunState

/// The part of a plan that one worker carries out.
package struct WorkerTask: Codable, Sendable {
    /// An author, and the worker's share of the author's documents.
    struct Assignment: Codable, Sendable {
        let share: AuthorShare
        let author: AuthorDocuments
    }

    /// The plan without its documents.
    let plan: RunPlan
    let state: StateFolder
    /// The versions (size and time) of the checkpoint's and the SAEs' files that the parent has checked.
    let inputs: [FileVersion]
    /// The worker's rank among all workers of the run.
    package let rank: Int
    /// The worker's authors, in the plan's order.
    let assignments: [Assignment]
    /// Whether the worker logs, on its first batch, how well each SAE reconstructs its activations.
    let checksTaps: Bool

    /// The worker's device; nil on the CPU.
    package var device: DeviceDescription? {
        plan.devices.isEmpty ? nil : plan.devices[rank - plan.ranks.lowerBound]
    }

    /// For each of the worker's authors: the author's index in the plan, and the number of documents that the worker
    /// computes. The number is approximate if several ranks share the author.
    package var documentCounts: [(author: Int, documents: Int)] {
        assignments.map { ($0.share.number, $0.author.documents.count / $0.share.parts) }
    }

    /// The maximum number of threads and processes that the worker has at a time: the computing threads and two more.
    /// On a CUDA device, also the threads that write files and those of the driver.
    package var taskCount: Int { plan.threads + 2 + (device == nil ? 0 : 2 * plan.threads + 10) }

    /// The number of ranks of the run.
    package var worldSize: Int { plan.worldSize }

    /// Returns one task for each worker of this invocation.
    package static func tasks(
        _ plan: RunPlan, _ inputs: InputFingerprints, _ state: StateFolder
    ) -> [WorkerTask] {
        plan.ranks.map { rank in
            let shares = AuthorShare.shares(
                rank: rank, worldSize: plan.worldSize, authorCount: plan.authors.count)
            return WorkerTask(
                plan: plan.withoutAuthors(), state: state, inputs: inputs.versions, rank: rank,
                assignments: shares.map { Assignment(share: $0, author: plan.authors[$0.number]) },
                checksTaps: rank == plan.ranks.lowerBound)
        }
    }
}
