// Makes the list of the files that a run needs from the Hub.

import Files
import Hub

/// A list for users: the files that a run needs from the Hub, and which of them must be downloaded.
struct HubFileList {
    private let requests: [(name: String, request: HubRequest)]
    private let hub: Hub

    init(_ requests: [(name: String, request: HubRequest)], _ hub: Hub) {
        (self.requests, self.hub) = (requests, hub)
    }

    var lines: [String] {
        var lines: [String] = []
        var (count, needed) = (0, 0)
        for (name, request) in requests {
            let snapshot = request.snapshot
            let toDownload = request.toDownload
            lines.append(
                "\(name): \(snapshot.reference) at commit \(snapshot.commit)")
            lines += textTable(
                request.paths.map { path in
                    [
                        path, byteCount(snapshot.size(path)),
                        toDownload.paths.contains(path) ? "to be downloaded" : "in the cache",
                    ]
                })
            count += toDownload.paths.count
            needed = needed.clampedAdding(toDownload.bytes)
        }
        lines += [
            "",
            "to be downloaded: \(count) \(count == 1 ? "file" : "files"), \(byteCount(needed)); cache: \(hub.settings.cacheDirectory)",
        ]
        return lines
    }
}
