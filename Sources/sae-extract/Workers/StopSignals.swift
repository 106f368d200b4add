// Signals that ask the process to stop. The handler writes each signal as a byte into a pipe, and a thread reads the pipe. A
// signal handler may call only a few functions, and it may run on any thread, also on those of libraries.

import FoundationEssentials
import Glibc
import Threading

/// The pipe's write end. A plain global, because a signal handler may not run initializers.
private nonisolated(unsafe) var signalPipe: Int32 = -1

/// The signals after which the process finishes its current batch and ends.
enum StopSignals {
    /// SIGINT is Ctrl-C. Schedulers send SIGTERM before they kill. SIGUSR1 is the usual choice for Slurm's `--signal`.
    static let all: [Int32] = [SIGINT, SIGTERM, SIGUSR1]

    /// Returns the signal's name, "SIGTERM", or "signal 42" for signals without a name here.
    static func name(_ signal: Int32) -> String {
        let names: [Int32: String] = [
            SIGINT: "SIGINT", SIGTERM: "SIGTERM", SIGUSR1: "SIGUSR1", SIGKILL: "SIGKILL",
            SIGSEGV: "SIGSEGV", SIGBUS: "SIGBUS", SIGABRT: "SIGABRT", SIGILL: "SIGILL",
            SIGTRAP: "SIGTRAP", SIGFPE: "SIGFPE", SIGHUP: "SIGHUP",
        ]
        return names[signal] ?? "signal \(signal)"
    }

    /// Calls `handler` on a new thread for each of these signals. After the first signal, calls `meanwhile` after every second in
    /// which no signal arrives. May be called once per process.
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
