// The state of a process: stopped or not.

import FoundationEssentials
import Glibc

/// The kernel's state of a process (`/proc/PID/stat`, proc(5)).
enum ProcessState {
    /// Stopped by a signal (SIGSTOP).
    case stopped
    /// Any other state, also of a process that does not exist.
    case other

    init(_ process: pid_t) {
        let text = (try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)) ?? ""
        // The state is the first field after the name. The name is in parentheses and may contain any character.
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        self = fields.count > 1 && fields[1] == "T" ? .stopped : .other
    }
}
