// What a wish to end does to a run. All of it happens on the thread that hears of signals, and nothing of it waits for
// another: where the system gives no threads, those that wait for workers may never run.

import Glibc
import Synchronization

/// Passes a wish to end on to the workers.
final class StopControl: Sendable {
    private struct State {
        var signal: Int32?
        var interruptions = 0
        var hasWorkers = false
        var isOver = false
        var workers: [pid_t] = []
        /// For how long nobody has been at work, though the run has not ended.
        var idleSeconds = 0
    }

    private let state = Mutex(State())

    /// How the run is continued, in words.
    private let advice: String

    /// Workers that have ended are taken note of within much less.
    private static let idleLimit = 3

    init(advice: String) {
        self.advice = advice
    }

    /// The first signal that came.
    var signal: Int32? { state.withLock(\.signal) }

    /// Before there are workers there is nothing to finish. A second Ctrl-C does not wait either.
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

    /// To be called every second once a signal has come: ends the process where no worker is there any more and yet
    /// nobody takes note of it.
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

    /// From now on there are workers.
    func begin() { state.withLock { $0.hasWorkers = true } }

    /// All workers have ended, and all is known of them.
    func end() { state.withLock { $0.isOver = true } }

    /// `worker` is to be told when it is to end.
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

    /// One that is not ready for the signal yet is ended by it, and has nothing to lose. One that has been waited for is
    /// not there to be asked: its number may be another's.
    private static func ask(_ worker: pid_t) {
        if !hasEnded(worker) { kill(worker, SIGTERM) }
    }

    /// Whether `worker`, a child, has ended, waited for or not.
    private static func hasEnded(_ worker: pid_t) -> Bool {
        var info = siginfo_t()
        let result = waitid(P_PID, id_t(worker), &info, WEXITED | WNOHANG | WNOWAIT)
        return result != 0 || info._sifields._sigchld.si_pid != 0
    }
}
