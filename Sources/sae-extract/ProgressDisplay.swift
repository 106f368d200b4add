// Shows progress while workers run.

import Dispatch
import Extraction
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// Keeps count of what workers say, and shows it as was asked for.
final class ProgressDisplay: Sendable {
    private let progress: Mutex<RunProgress>
    private let style: ProgressStyle
    /// Whether the style was named, not chosen for what standard error is.
    private let isAsked: Bool
    private let log: Logger
    private let start = ContinuousClock.now
    private let queue = DispatchQueue(label: "progress")
    private nonisolated(unsafe) let timer: any DispatchSourceTimer
    /// Whether something has happened since the last line.
    private let hasNews = Atomic<Bool>(true)

    /// Environment variable: seconds between lines.
    static let secondsVariable = "SAE_EXTRACT_PROGRESS_SECONDS"

    /// Begins to show how far `tasks` are. Of lines, there is one every `seconds`: by default 30, of JSON 1.
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
        // wcwidth goes by the locale; this one is part of glibc.
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

    /// A worker said `event`.
    func add(_ event: WorkerEvent, rank: Int) {
        progress.withLock { $0.add(event, rank: rank, at: time) }
        hasNews.store(true, ordering: .relaxed)
    }

    /// The worker at `index` ended. Live lines show a failure at once: the run may be over before they are next drawn.
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
            // A line that fills the last column breaks on some terminals.
            Console.shared.draw(
                current.liveLines(at: now, columns: columns - 1, rows: rows - 1))
        case .plain:
            let line = current.plainLine(at: now)
            // Who asks for it gets it at any --log_level.
            if isAsked { writeErrorLine(line) } else { log.info("\(line)") }
        case .json:
            guard hasNews.exchange(false, ordering: .relaxed) else { return }
            try? printJSON(current.jsonLine(at: now))
        case .auto, .none: break
        }
    }

    /// Shows the last of it, and no more; returns what there was.
    func finish() -> RunProgress {
        // None is under way afterwards.
        queue.sync { timer.cancel() }
        if style == .json {
            hasNews.store(true, ordering: .relaxed)
            show()
        }
        Console.shared.endDrawing()
        return progress.withLock { $0 }
    }
}
