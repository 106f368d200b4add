// A process that does not end fails its test instead of holding up all of them.

import Foundation

/// Kills a process that has not ended after a time in which every one of these tests' does, and says what it waited for.
public final class Watchdog {
    private let timer: any DispatchSourceTimer

    /// Seconds that are granted; on a machine that does ten other things as well the longest took 60.
    private static let patience = 400

    /// Watches `process`, which runs, until this is let go or `stop` is called.
    public init(_ process: Process) {
        let identifier = process.processIdentifier
        let command = ([process.executableURL?.path ?? ""] + (process.arguments ?? []))
            .joined(separator: " ")
        timer = DispatchSource.makeTimerSource(queue: .global())
        timer.schedule(deadline: .now() + .seconds(Watchdog.patience))
        timer.setEventHandler {
            let family = Watchdog.family(of: identifier)
            let state = family.map(Watchdog.state).joined(separator: "\n")
            for member in family { kill(member, SIGKILL) }
            let report = "killed after \(Watchdog.patience) s: \(command)\n\(state)\n"
            FileHandle.standardError.write(Data(report.utf8))
        }
        timer.activate()
    }

    /// The process has ended.
    public func stop() { timer.cancel() }

    deinit { stop() }

    private static func read(_ path: String) -> String {
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        return text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private static func threads(of identifier: pid_t) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(identifier)/task")) ?? []
    }

    /// A process and all below it.
    private static func family(of identifier: pid_t) -> [pid_t] {
        let children = threads(of: identifier).flatMap {
            read("/proc/\(identifier)/task/\($0)/children").split(separator: " ")
        }
        return [identifier] + children.compactMap { pid_t($0) }.flatMap(family)
    }

    /// What each of a process' threads is waiting for.
    private static func state(of identifier: pid_t) -> String {
        let threads = threads(of: identifier).sorted().map { thread in
            let folder = "/proc/\(identifier)/task/\(thread)"
            return "  \(thread) \(read(folder + "/comm")): \(read(folder + "/wchan"))"
        }
        return (["process \(identifier)"] + threads).joined(separator: "\n")
    }
}
