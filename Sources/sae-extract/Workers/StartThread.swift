// Starts the threads that wait for signals and for the parent.

import Glibc
import Threading

/// Runs `body` on a new thread. If the system refuses the thread, ends the process with a message, because nothing
/// could stop the process without this thread.
func startThread(_ body: @escaping @Sendable () -> Void) {
    let status = makeThread(body)
    guard status == 0 else {
        ExitStatus.ioError.exit(
            saying: LauncherError.noThread(
                reason:
                    "\(String(cString: strerror(status))): \(TaskLimits.ofThisProcess.description)")
        )
    }
}
