// The progress of downloads.

import Files
import Hub
import Synchronization

/// Counts downloaded bytes.
final class DownloadProgress: Sendable {
    private let total: Int
    private let start = ContinuousClock.now
    /// `all`: bytes that are in the cache. `received`: how many of these bytes came over the network.
    private let done = Mutex((all: 0, received: 0))

    init(total: Int) {
        self.total = total
    }

    func add(_ count: Int, _ kind: DownloadedBytes) {
        done.withLock {
            $0.all += count
            if kind == .received { $0.received += count }
        }
    }

    var description: String {
        let (all, received) = done.withLock { $0 }
        let rate = Double(received) / max((ContinuousClock.now - start) / .seconds(1), 1e-3)
        let left = rate > 0 ? ", about \(Int(Double(total - all) / rate)) s left" : ""
        return
            "downloaded \(byteCount(all)) of \(byteCount(total)), \(byteCount(Int(rate)))/s\(left)"
    }
}
