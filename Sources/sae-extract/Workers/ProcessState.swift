// The state of a process: stopped or not.

import FoundationEssentials
import Glibc

/// The state of a process, from `/proc/PID/stat` (proc(5)).
enum ProcessState {
    /// The process is stopped by a signal (SIGSTOP).
    case stopped
    /// The process is in any other state, or does not exist.
    case other

    init(_ process: pid_t) {
        let text = (try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)) ?? ""
        // The second field is the process name in parentheses. The name may contain parentheses, so the search begins
        // at the last one. The state is the next field.
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        self = fields.count > 1 && fields[1] == "T" ? .stopped : .other
    }
}
