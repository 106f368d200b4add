// Signals that ask for an end become bytes in a pipe, which a thread reads: a handler itself may do next to nothing,
// and libraries' own threads may be the ones that get it.

import FoundationEssentials
import Glibc
import Threading

/// The pipe's writing end. A plain global, because a signal handler may not run initializers.
private nonisolated(unsafe) var signalPipe: Int32 = -1

/// The signals after which the batch in hand is finished and the process ends.
enum StopSignals {
    /// Ctrl-C, what schedulers send before they kill, and what Slurm's `--signal` sends by custom.
    static let all: [Int32] = [SIGINT, SIGTERM, SIGUSR1]

    /// "SIGTERM".
    static func name(_ signal: Int32) -> String {
        let names: [Int32: String] = [
            SIGINT: "SIGINT", SIGTERM: "SIGTERM", SIGUSR1: "SIGUSR1", SIGKILL: "SIGKILL",
            SIGSEGV: "SIGSEGV", SIGBUS: "SIGBUS", SIGABRT: "SIGABRT", SIGILL: "SIGILL",
            SIGTRAP: "SIGTRAP", SIGFPE: "SIGFPE", SIGHUP: "SIGHUP",
        ]
        return names[signal] ?? "signal \(signal)"
    }

    /// Calls `handler` on a thread of its own for each signal that comes and, once one has come, `meanwhile` every second
    /// without another. To be called once.
    static func handle(
        _ handler: @escaping @Sendable (Int32) -> Void,
        meanwhile: @escaping @Sendable () -> Void = {}
    ) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        signalPipe = ends[1]
        let reading = ends[0]
        startThread {
            var byte: UInt8 = 0
            var patience: Int32 = -1
            while true {
                var waiting = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
                let ready = poll(&waiting, 1, patience)
                if ready == 0 { meanwhile() }
                guard ready > 0 else { continue }
                patience = 1000
                let count = read(reading, &byte, 1)
                if count == 1 { handler(Int32(byte)) }
                if count == 0 { return }
            }
        }
        for number in all {
            signal(number) { number in
                let saved = errno
                var byte = UInt8(truncatingIfNeeded: number)
                _ = write(signalPipe, &byte, 1)
                errno = saved
            }
        }
    }
}

/// Runs `body` on a thread of its own. Where the system gives none, the process ends with a message: the threads
/// started here are what hears a wish to end.
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
