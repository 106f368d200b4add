// Handles signals to the parent. `receive` and `look` run on the signal thread and never wait for another thread. If
// the system refuses threads, the threads that wait for workers may never run.

import Glibc
import Synchronization

/// Asks the workers to stop after a signal, or ends the process.
final class StopControl: Sendable {
    private struct State {
        var signal: Int32?
        var interruptions = 0
        var hasWorkers = false
        var isOver = false
        var workers: [pid_t] = []
        /// The number of seconds for which `look` has found all workers ended. Stays 0 after `end`.
        var idleSeconds = 0
    }

    private let state = Mutex(State())

    /// How the user can continue the run: "run the same command again to continue".
    private let advice: String

    /// The seconds after which `look` ends the process, if all workers have ended but `end` was not called.
    private static let idleLimit = 3

    init(advice: String) {
        self.advice = advice
    }

    /// The first signal that arrived while there were workers. Nil if no signal has arrived.
    var signal: Int32? { state.withLock(\.signal) }

    /// Asks the workers to stop. Ends the process at once if no workers were started, or after a second Ctrl-C.
    func receive(_ signal: Int32) {
        let name = StopSignals.name(signal)
        let isLate: Bool = state.withLock {
            if signal == SIGINT { $0.interruptions += 1 }
            guard $0.hasWorkers, $0.interruptions < 2 else { return true }
            if $0.signal == nil {
                $0.signal = signal
                writeErrorLine("\(name): finishing the current batches, then stopping")
            }
            for worker in $0.workers { StopControl.ask(worker) }
            return false
        }
        if isLate { leave(signal) }
    }

    /// Ends the process if all workers have ended but `end` was not called. Must be called every second after the
    /// first signal.
    func look() {
        let signal: Int32? = state.withLock {
            guard $0.hasWorkers, !$0.isOver, $0.workers.allSatisfy(StopControl.hasEnded) else {
                $0.idleSeconds = 0
                return nil
            }
            $0.idleSeconds += 1
            return $0.idleSeconds >= StopControl.idleLimit ? $0.signal : nil
        }
        if let signal { leave(signal) }
    }

    /// Records that workers will be started. Must be called before the first worker starts.
    func begin() { state.withLock { $0.hasWorkers = true } }

    /// Records that the run knows how all workers ended. After this, `look` never ends the process.
    func end() { state.withLock { $0.isOver = true } }

    /// Adds a worker. If a signal has already arrived, asks the worker to stop.
    func add(_ worker: pid_t) {
        state.withLock {
            $0.workers.append(worker)
            if $0.signal != nil { StopControl.ask(worker) }
        }
    }

    private func leave(_ signal: Int32) -> Never {
        Console.shared.endDrawing()
        writeErrorLine("stopped by \(StopSignals.name(signal)); \(advice)")
        _exit(ExitStatus.stopped.rawValue)
    }

    /// Sends SIGTERM to `worker`, except if it has ended, because another process may then have its id. If the worker
    /// does not handle signals yet, SIGTERM ends it, and no results are lost.
    private static func ask(_ worker: pid_t) {
        if !hasEnded(worker) { kill(worker, SIGTERM) }
    }

    /// Returns whether `worker`, a child of this process, has ended. True also if the parent has waited for it.
    private static func hasEnded(_ worker: pid_t) -> Bool {
        var info = siginfo_t()
        let result = waitid(P_PID, id_t(worker), &info, WEXITED | WNOHANG | WNOWAIT)
        return result != 0 || info._sifields._sigchld.si_pid != 0
    }
}
