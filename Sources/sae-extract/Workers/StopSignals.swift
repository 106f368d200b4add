// Handles signals that ask the process to stop. A signal handler may call only a few functions, and may run on any
// thread. So it only writes the signal as a byte into a pipe, and a thread of this program reads the pipe.

import FoundationEssentials
import Glibc
import Threading

/// The write end of the pipe. It is a plain global variable, because a signal handler may not run an initializer.
private nonisolated(unsafe) var signalPipe: Int32 = -1

/// The signals after which a worker finishes its current batch and the run ends.
enum StopSignals {
    /// SIGINT is Ctrl-C. Schedulers send SIGTERM before SIGKILL. SIGUSR1 is a common choice for Slurm's `--signal`.
    static let all: [Int32] = [SIGINT, SIGTERM, SIGUSR1]

    /// Returns the signal's name, such as "SIGTERM". Returns "signal 42" for a signal that is not in this table.
    static func name(_ signal: Int32) -> String {
        let names: [Int32: String] = [
            SIGINT: "SIGINT", SIGTERM: "SIGTERM", SIGUSR1: "SIGUSR1", SIGKILL: "SIGKILL",
            SIGSEGV: "SIGSEGV", SIGBUS: "SIGBUS", SIGABRT: "SIGABRT", SIGILL: "SIGILL",
            SIGTRAP: "SIGTRAP", SIGFPE: "SIGFPE", SIGHUP: "SIGHUP",
        ]
        return names[signal] ?? "signal \(signal)"
    }

    /// Starts a thread that calls `handler` for each signal in `all`. After the first signal, it also calls
    /// `meanwhile` after every second without a signal. May be called once per process.
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
