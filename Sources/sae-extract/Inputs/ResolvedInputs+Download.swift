// Downloads the inputs of a run and logs the progress.

import Files
import Hub
import Logging
import Planning

extension ResolvedInputs {
    /// Downloads the missing files and logs the progress. Throws `HubError` and `FileError`.
    func download(from hub: Hub, log: Logger) async throws {
        let requests = self.requests.map(\.request)
        try await hub.check(requests)
        let needed = requests.map(\.toDownload)
        let total = needed.map(\.bytes).clampedSum
        let files = needed.reduce(0) { $0 + $1.paths.count }
        guard files > 0 else {
            // All contents are in the cache. This call only links them in the snapshot of the current commit.
            try await hub.download(requests)
            hub.settle(requests)
            return
        }
        log.info(
            "downloading \(counted(files, "file")), \(byteCount(total)), into \(hub.settings.cacheDirectory)"
        )
        let progress = DownloadProgress(total: total)
        let reporting = Task {
            while true {
                try await Task.sleep(for: .seconds(5))
                log.info("\(progress.description)")
            }
        }
        defer { reporting.cancel() }
        let clock = ContinuousClock.now
        try await hub.download(requests) { progress.add($0, $1) }
        hub.settle(requests)
        let seconds = max((ContinuousClock.now - clock) / .seconds(1), 1e-3)
        log.info("downloaded \(byteCount(total)) in \(decimals(seconds, 1)) s")
    }
}
