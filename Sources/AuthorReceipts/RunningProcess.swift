// Identifies the process of a run, and finds out whether the process is still running.

import ByteJSON
import FoundationEssentials
import Glibc
import RunFiles

/// A process on a machine. The start time distinguishes the process from later processes with the same process ID.
package struct RunningProcess: Equatable, Sendable {
    /// The name of the machine.
    let host: String
    /// The process ID.
    package let identifier: Int32
    /// The start time in the kernel's clock ticks since the machine started; 0 if unknown.
    let start: Int

    /// The process that runs this code.
    package static var own: RunningProcess {
        RunningProcess(
            host: ProcessInfo.processInfo.hostName, identifier: getpid(),
            start: start(of: getpid()) ?? 0)
    }

    private init(host: String, identifier: Int32, start: Int) {
        (self.host, self.identifier, self.start) = (host, identifier, start)
    }

    /// Reads the process from an entry of `run.json`. Nil if the entry is incomplete.
    package init?(entry: JSONObject?) {
        guard let host = entry?[.host]?.string,
            let identifier = entry?[.id]?.integer.flatMap({ Int32(exactly: $0) }),
            let start = entry?[.start]?.integer
        else { return nil }
        self.init(host: host, identifier: identifier, start: start)
    }

    /// The process as an entry of `run.json`.
    package var entry: JSONObject {
        JSONObject(run: [
            .host: .string(host), .id: .integer(Int(identifier)), .start: .integer(start),
        ])
    }

    /// Whether the process is running on this machine. False for a process of another machine.
    package var isHere: Bool {
        start > 0 && host == ProcessInfo.processInfo.hostName
            && RunningProcess.start(of: identifier) == start
    }

    /// Returns the start time of the process (field 22 of `/proc/PID/stat`). Nil if no such process exists. Counts
    /// the fields from the last parenthesis, because the name in field 2 can contain spaces and parentheses.
    private static func start(of identifier: Int32) -> Int? {
        guard let text = try? String(contentsOfFile: "/proc/\(identifier)/stat", encoding: .utf8),
            let end = text.lastIndex(of: ")")
        else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > 19 ? Int(fields[19]) : nil
    }
}
