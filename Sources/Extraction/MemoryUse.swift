// Reads from `/proc` how much memory a process uses.

import FoundationEssentials

/// The memory that a process uses.
package struct MemoryUse: Sendable {
    /// Bytes of anonymous memory (RssAnon).
    package var own = 0
    /// Bytes of memory-mapped files (RssFile): the checkpoint and the SAEs. All processes on the machine share this
    /// memory.
    package var mapped = 0

    /// Reads the memory of the process with the id `process`, or of this process, from `/proc/PID/status`. All
    /// numbers are 0 if the process has ended.
    package init(process: Int32? = nil) {
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

    /// The text for the log, such as "332 MB of memory, 5003 MB of mapped files".
    package var description: String {
        "\(own >> 20) MB of memory, \(mapped >> 20) MB of mapped files"
    }
}
