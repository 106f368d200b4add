// The parent's reaction to signals. All of it runs on the thread that reads signals, and none of it waits for another thread: if
// the system refuses threads, the threads that wait for workers may never run.

import Glibc
import Synchronization

/// Passes a request to stop on to the workers, or ends the process.
final class StopControl: Sendable {
    private struct State {
        var signal: Int32?
        var interruptions = 0
        var hasWorkers = false
        var isOver = false
        var workers: [pid_t] = []
        /// Seconds for which all workers have been ended although `end` was not called.
        var idleSeconds = 0
    }

    private let state = Mutex(State())

    /// How the user continues the run: "run the same command again to continue".
    private let advice: String

    /// After this many seconds `look` ends the process. Normally the run notices in much less time that its workers have ended.
    private static let idleLimit = 3

    init(advice: String) {
        self.advice = advice
    }

    /// The first signal that arrived while there were workers. Nil: none.
    var signal: Int32? { state.withLock(\.signal) }

    /// Handles a signal: asks the workers to stop. Ends the process at once if there are no workers yet, because nothing is to be
    /// finished then, and on a second Ctrl-C.
    func receive(_ signal: Int32) {
        let name = StopSignals.name(signal)
        let isLate: Bool = state.withLock {
            if signal == SIGINT { $0.interruptions += 1 }
            guard $0.hasWorkers, $0.interruptions < 2 else { return true }
            if $0.signal == nil {
                $0.signal = signal
                writeErrorLine("\(name): finishing the batches in hand")
            }
            for worker in $0.workers { StopControl.ask(worker) }
            return false
        }
        if isLate { leave(signal) }
    }

    /// Ends the process if all workers have ended and the run does not notice that. Must be called every second after the first
    /// signal.
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

    /// Notes that workers are about to be started.
    func begin() { state.withLock { $0.hasWorkers = true } }

    /// Notes that all workers have ended and that the run knows how.
    func end() { state.withLock { $0.isOver = true } }

    /// Adds a worker. Asks it to stop if a signal has already arrived.
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

    /// Sends SIGTERM. A worker that does not handle signals yet is ended by it and has nothing to lose. If the parent has already
    /// waited for the worker, the signal is not sent: the process number may belong to another process by now.
    private static func ask(_ worker: pid_t) {
        if !hasEnded(worker) { kill(worker, SIGTERM) }
    }

    /// Returns whether `worker`, a child of this process, has ended, also if the parent has already waited for it.
    private static func hasEnded(_ worker: pid_t) -> Bool {
        var info = siginfo_t()
        let result = waitid(P_PID, id_t(worker), &info, WEXITED | WNOHANG | WNOWAIT)
        return result != 0 || info._sifields._sigchld.si_pid != 0
    }
}
