// A time limit for processes. A process that does not end fails one test and does not block the other tests.

import Foundation

/// Kills a process that exceeds the time limit, and prints the kernel function in which each of its threads waits.
package final class Watchdog {
    private let timer: any DispatchSourceTimer

    /// The time limit in seconds. On a machine with ten other jobs, the longest process took 60 seconds.
    private static let patience = 400

    /// Starts the time limit for the running `process`. It lasts until `stop` is called or this object is released.
    package init(_ process: Process) {
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

    /// Ends the time limit. Call this when the process has ended.
    package func stop() { timer.cancel() }

    deinit { stop() }

    private static func read(_ path: String) -> String {
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        return text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private static func threads(of identifier: pid_t) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(identifier)/task")) ?? []
    }

    /// Returns the IDs of a process and of all its descendants.
    private static func family(of identifier: pid_t) -> [pid_t] {
        let children = threads(of: identifier).flatMap {
            read("/proc/\(identifier)/task/\($0)/children").split(separator: " ")
        }
        return [identifier] + children.compactMap { pid_t($0) }.flatMap(family)
    }

    /// Returns a text with each thread of a process, and the kernel function in which the thread waits.
    private static func state(of identifier: pid_t) -> String {
        let threads = threads(of: identifier).sorted().map { thread in
            let folder = "/proc/\(identifier)/task/\(thread)"
            return "  \(thread) \(read(folder + "/comm")): \(read(folder + "/wchan"))"
        }
        return (["process \(identifier)"] + threads).joined(separator: "\n")
    }
}
