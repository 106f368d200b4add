// The progress of downloads.

import Files
import Hub
import Synchronization

/// Counts downloaded bytes.
final class DownloadProgress: Sendable {
    private let total: Int
    private let start = ContinuousClock.now
    /// Bytes that are present (`all`), and the bytes of these that came over the network (`received`).
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
