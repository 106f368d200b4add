// Which process a run is, and whether it is still there.

import ByteJSON
import FoundationEssentials
import Glibc
import RunFiles

/// A process on some machine, told apart from later ones of the same number by when it began.
public struct RunningProcess: Equatable, Sendable {
    /// The machine.
    let host: String
    /// The process' number.
    public let identifier: Int32
    /// When it began, in the kernel's ticks since the machine did.
    let start: Int

    /// This process.
    package static var own: RunningProcess {
        RunningProcess(
            host: ProcessInfo.processInfo.hostName, identifier: getpid(),
            start: start(of: getpid()) ?? 0)
    }

    private init(host: String, identifier: Int32, start: Int) {
        (self.host, self.identifier, self.start) = (host, identifier, start)
    }

    /// The process that an entry of `run.json` names; nil where it names none.
    public init?(entry: JSONObject?) {
        guard let host = entry?[.host]?.string,
            let identifier = entry?[.id]?.integer.flatMap({ Int32(exactly: $0) }),
            let start = entry?[.start]?.integer
        else { return nil }
        self.init(host: host, identifier: identifier, start: start)
    }

    /// As an entry of `run.json` names it.
    package var entry: JSONObject {
        JSONObject(run: [
            .host: .string(host), .id: .integer(Int(identifier)), .start: .integer(start),
        ])
    }

    /// Whether it is known to be there; false also of a process of another machine.
    public var isHere: Bool {
        start > 0 && host == ProcessInfo.processInfo.hostName
            && RunningProcess.start(of: identifier) == start
    }

    /// Field 22 of `/proc/PID/stat`, whose second field is a name in parentheses, of any characters.
    private static func start(of identifier: Int32) -> Int? {
        guard let text = try? String(contentsOfFile: "/proc/\(identifier)/stat", encoding: .utf8),
            let end = text.lastIndex(of: ")")
        else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > 19 ? Int(fields[19]) : nil
    }
}
