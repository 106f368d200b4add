// What a worker is told.

import CUDA
import Corpus
import Files
import FoundationEssentials
import Planning
import RunState

/// One worker's part of a plan.
public struct WorkerTask: Codable, Sendable {
    struct Assignment: Codable, Sendable {
        let share: AuthorShare
        let author: AuthorDocuments
    }

    /// The plan, without documents.
    let plan: RunPlan
    let state: StateFolder
    /// The checkpoint's and the SAEs' files, as the parent has looked at them.
    let inputs: [FileVersion]
    /// The worker's rank among all.
    public let rank: Int
    /// Its authors, in order.
    let assignments: [Assignment]
    /// Whether the worker's first batch compares the SAEs with their taps.
    let checksTaps: Bool

    /// The worker's device; nil on the CPU.
    public var device: DeviceDescription? {
        plan.devices.isEmpty ? nil : plan.devices[rank - plan.ranks.lowerBound]
    }

    /// How many documents of each of its authors, by the author's place in the plan's order, fall to the worker; of an
    /// author that it shares, about.
    public var documentCounts: [(author: Int, documents: Int)] {
        assignments.map { ($0.share.number, $0.author.documents.count / $0.share.parts) }
    }

    /// Threads and processes that the worker may have at once: its own three besides those that compute and, beside a
    /// device, those that write and the driver's.
    public var taskCount: Int { plan.threads + 2 + (device == nil ? 0 : 2 * plan.threads + 10) }

    /// How many ranks there are.
    public var worldSize: Int { plan.worldSize }

    /// The tasks of `plan`'s workers.
    public static func tasks(
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
