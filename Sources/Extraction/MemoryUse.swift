// How much memory a process has.

import FoundationEssentials

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
