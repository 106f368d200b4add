// Standard error, shared by the log and a live display below it.

import Files
import FoundationEssentials
import Glibc
import Synchronization

/// Writes to standard error, one text at a time. Lines that are live stay below everything else that is written.
final class Console: Sendable {
    /// The process' own.
    static let shared = Console()

    private struct State {
        /// The live lines as drawn.
        var drawn: [TerminalLine] = []
        /// Whether no more are to be.
        var isOver = false
    }

    private let state = Mutex(State())
    /// Whether lines may be coloured (https://no-color.org).
    private let hasColor: Bool

    private init() {
        hasColor = (getenv("NO_COLOR").map { String(cString: $0) } ?? "").isEmpty
    }

    /// Whether standard error is a terminal that can move its cursor.
    static var isTerminal: Bool {
        isatty(STDERR_FILENO) == 1
            && !["", "dumb"].contains(getenv("TERM").map { String(cString: $0) } ?? "")
    }

    /// The terminal's size in columns and rows; it may change at any time.
    static var size: (columns: Int, rows: Int) {
        var size = winsize()
        guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0
        else { return (80, 24) }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    /// Writes `lines`, made printable, and their ends. Where nobody listens any more, the run goes on.
    func write(_ lines: [String]) {
        let text = lines.map { printable($0) + "\n" }.joined()
        state.withLock { state in
            put(erasing(state.drawn) + text + drawing(state.drawn))
        }
    }

    /// Draws `lines` in place of those before.
    func draw(_ lines: [TerminalLine]) {
        state.withLock { state in
            guard !state.isOver else { return }
            put(erasing(state.drawn) + drawing(lines))
            state.drawn = lines
        }
    }

    /// Takes the live lines away, for good.
    func endDrawing() {
        state.withLock { state in
            if !state.drawn.isEmpty { put(erasing(state.drawn)) }
            (state.drawn, state.isOver) = ([], true)
        }
    }

    // MARK: Control sequences (ECMA-48)

    /// From the end of the drawn lines to the front of the first, and all of them erased. Row by row: to erase a whole
    /// screen at once puts it into the history of some terminals (tmux). A terminal that has become narrower has broken
    /// lines in two.
    private func erasing(_ lines: [TerminalLine]) -> String {
        guard !lines.isEmpty else { return "" }
        let columns = Console.size.columns
        let below =
            lines.reduce(0) {
                $0 + max(1, (RunProgress.displayWidth($1.text) + columns - 1) / columns)
            } - 1
        let up = below > 0 ? "\u{1B}[\(below)A" : ""
        return "\r" + up + String(repeating: "\u{1B}[K\u{1B}[B", count: below) + "\u{1B}[K" + up
    }

    private func drawing(_ lines: [TerminalLine]) -> String {
        lines.map { line in
            line.isAlarm && hasColor ? "\u{1B}[31m\(line.text)\u{1B}[0m" : line.text
        }.joined(separator: "\n")
    }

    private func put(_ text: String) {
        try? Array(text.utf8).withUnsafeBytes {
            try writeAll($0, to: STDERR_FILENO, path: "standard error")
        }
    }
}
