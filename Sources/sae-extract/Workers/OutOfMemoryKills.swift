// Tells whether the kernel killed processes because memory was short.

import FoundationEssentials

/// Tells whether the kernel has killed a process for lack of memory since this value was made. Reads `oom_kill` in
/// `/proc/vmstat`, which counts these kills on the whole machine.
struct OutOfMemoryKills {
    private let before = OutOfMemoryKills.count

    private static var count: Int? {
        let text = try? String(contentsOfFile: "/proc/vmstat", encoding: .utf8)
        let line = text?.split(separator: "\n").first { $0.hasPrefix("oom_kill ") }
        return line?.split(separator: " ").last.flatMap { Int($0) }
    }

    var haveHappened: Bool { OutOfMemoryKills.count ?? 0 > before ?? 0 }
}
