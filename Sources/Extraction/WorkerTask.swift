// What a worker is told, and what it tells.

import ArrayFiles
import CUDA
import Corpus
import FoundationEssentials
import Synchronization

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
        _ plan: RunPlan, _ inputs: Inputs, _ state: StateFolder
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

/// What a worker says on its standard output, one JSON object a line.
public enum WorkerEvent: Codable, Equatable, Sendable {
    /// The worker has its task.
    case started(process: Int32)
    /// The model and the SAEs are there.
    case loaded(kernels: String, products: String)
    /// An author's turn.
    case author(name: String)
    /// How many documents of an author are the worker's, and how many of them are in the journals already.
    case share(author: Int, documents: Int, done: Int)
    /// A batch has been computed and is in the journal; bytes in use on the worker's device, if it has one.
    case batch(author: Int, batch: Int, documents: Int, tokens: Int, deviceMemory: Int?)
    /// An author's files are being made.
    case writing(author: Int)
    /// An author's files are all in their places; `made` of them just now.
    case authorDone(author: Int, made: Int)
    /// The worker's share of an author is done; other ranks have the rest.
    case shareDone(author: Int)
    /// The worker ends because of an error. `status` is the exit code for it, `message` has its lines.
    case failed(status: Int32, message: [String])
    /// The worker ends because it was asked to.
    case stopped
    /// The worker has done all it was told to.
    case finished(seconds: [String: Double])
}

/// Asks a worker to end after the batch in hand.
public final class StopFlag: Sendable {
    private let flag = Atomic<Bool>(false)

    /// A flag that is not raised.
    public init() {}

    /// Raises the flag, for good.
    public func raise() { flag.store(true, ordering: .relaxed) }

    /// Whether it is raised.
    public var isRaised: Bool { flag.load(ordering: .relaxed) }

    /// Throws `StopRequest` where the flag is raised.
    public func check() throws(StopRequest) {
        if isRaised { throw StopRequest() }
    }
}

/// The worker was asked to end. Nothing that was finished is lost.
public struct StopRequest: Error {}

/// What a process holds in memory.
public struct MemoryUse: Sendable {
    /// Bytes of its own.
    public var own = 0
    /// Bytes of mapped files: the checkpoint and the SAEs, shared with other processes.
    public var mapped = 0

    /// This process' use, or another's (`/proc/PID/status`); nothing where it has ended.
    public init(process: Int32? = nil) {
        let name = process.map { "\($0)" } ?? "self"
        guard let text = try? String(contentsOfFile: "/proc/\(name)/status", encoding: .utf8)
        else { return }
        func bytes(_ key: String) -> Int {
            let line = text.split(separator: "\n").first { $0.hasPrefix(key + ":") }
            return
                (line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }
                ?? 0) << 10
        }
        (own, mapped) = (bytes("RssAnon"), bytes("RssFile"))
    }

    /// "332 MB of memory, 5003 MB of mapped files".
    public var description: String {
        "\(own >> 20) MB of memory, \(mapped >> 20) MB of mapped files"
    }
}
