// Shows progress while workers run.

import Dispatch
import Extraction
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// Adds up the workers' events, and shows progress in the style of `--progress`.
final class ProgressDisplay: Sendable {
    private let progress: Mutex<RunProgress>
    private let style: ProgressStyle
    /// Whether the user named the style with `--progress`. False if the style is `auto`.
    private let isAsked: Bool
    private let log: Logger
    private let start = ContinuousClock.now
    private let queue = DispatchQueue(label: "progress")
    private nonisolated(unsafe) let timer: any DispatchSourceTimer
    /// Whether an event has arrived since the last JSON line.
    private let hasNews = Atomic<Bool>(true)

    /// The environment variable that sets the seconds between progress lines.
    static let secondsVariable = "SAE_EXTRACT_PROGRESS_SECONDS"

    /// Begins to show the progress of `tasks`. `seconds` is the time between progress lines. If it is nil, the time
    /// is 1 s for JSON objects and 30 s for log lines. Live lines are always updated every 0.2 s.
    init(_ tasks: [WorkerTask], _ style: ProgressStyle, seconds: Double?, log: Logger) {
        progress = Mutex(RunProgress(ranks: tasks.map { ($0.rank, $0.documentCounts) }))
        isAsked = style != .auto
        self.style = style == .auto ? (Console.isTerminal ? .bar : .plain) : style
        self.log = log
        let interval: Double =
            switch self.style {
            case .bar: 0.2
            case .json: seconds ?? 1
            default: seconds ?? 30
            }
        timer = DispatchSource.makeTimerSource(queue: queue)
        // Sets a UTF-8 locale for wcwidth. The locale C.UTF-8 is built into glibc.
        if self.style == .bar { setlocale(LC_CTYPE, "C.UTF-8") }
        if self.style != .none {
            timer.schedule(
                deadline: .now() + (self.style == .plain ? interval : 0), repeating: interval,
                leeway: .milliseconds(20))
            timer.setEventHandler { [weak self] in self?.show() }
        }
        timer.activate()
    }

    private var time: Double { (ContinuousClock.now - start) / .seconds(1) }

    /// Adds an event of the worker `rank`.
    func add(_ event: WorkerEvent, rank: Int) {
        progress.withLock { $0.add(event, rank: rank, at: time) }
        hasNews.store(true, ordering: .relaxed)
    }

    /// Records that the worker of task `index` has ended. Shows a failure at once, because the run may end before the
    /// next update.
    func end(_ index: Int, _ end: WorkerEnd) {
        progress.withLock { $0.end(index, end) }
        hasNews.store(true, ordering: .relaxed)
        if style == .bar, case .failed = end { queue.async { [weak self] in self?.show() } }
    }

    private func show() {
        let now = time
        let current = progress.withLock {
            $0.lookUpMemory()
            return $0
        }
        switch style {
        case .bar:
            let (columns, rows) = Console.size
            // One column stays empty, because some terminals wrap a line that fills the last column.
            Console.shared.draw(
                current.liveLines(at: now, columns: columns - 1, rows: rows - 1))
        case .plain:
            let line = current.plainLine(at: now)
            // If the user named the style, the line is written at any --log_level.
            if isAsked { writeErrorLine(line) } else { log.info("\(line)") }
        case .json:
            guard hasNews.exchange(false, ordering: .relaxed) else { return }
            try? printJSON(current.jsonLine(at: now))
        case .auto, .none: break
        }
    }

    /// Shows the last state, ends the display, and returns the progress.
    func finish() -> RunProgress {
        // After this call, no update is running.
        queue.sync { timer.cancel() }
        if style == .json {
            hasNews.store(true, ordering: .relaxed)
            show()
        }
        Console.shared.endDrawing()
        return progress.withLock { $0 }
    }
}
