// Whether the kernel killed processes because memory was short.

import FoundationEssentials

/// Counts the processes that the kernel kills because memory is short (`oom_kill` in `/proc/vmstat`), from its creation on.
struct KernelKills {
    private let before = KernelKills.count

    private static var count: Int? {
        let text = try? String(contentsOfFile: "/proc/vmstat", encoding: .utf8)
        let line = text?.split(separator: "\n").first { $0.hasPrefix("oom_kill ") }
        return line?.split(separator: " ").last.flatMap { Int($0) }
    }

    var haveHappened: Bool { KernelKills.count ?? 0 > before ?? 0 }
}
