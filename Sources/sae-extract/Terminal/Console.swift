// Writes to standard error, which the log and the live progress lines share.

import Files
import FoundationEssentials
import Glibc
import Synchronization

/// Writes to standard error, one text at a time. The live progress lines always stay below all other lines.
final class Console: Sendable {
    /// The console of this process.
    static let shared = Console()

    private struct State {
        /// The live lines that are on the terminal.
        var drawn: [TerminalLine] = []
        /// Whether `endDrawing` was called. No live lines are drawn after that.
        var isOver = false
    }

    private let state = Mutex(State())
    /// Whether lines may be coloured: NO_COLOR is unset or empty (https://no-color.org).
    private let hasColor: Bool

    private init() {
        hasColor = (getenv("NO_COLOR").map { String(cString: $0) } ?? "").isEmpty
    }

    /// Whether standard error is a terminal that can move its cursor.
    static var isTerminal: Bool {
        isatty(STDERR_FILENO) == 1
            && !["", "dumb"].contains(getenv("TERM").map { String(cString: $0) } ?? "")
    }

    /// The terminal's current size in columns and rows. It is 80 × 24 if the size is unknown.
    static var size: (columns: Int, rows: Int) {
        var size = winsize()
        guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0
        else { return (80, 24) }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    /// Writes `lines`, made printable, each with a line break. Ignores errors, so that the run continues if standard
    /// error is closed.
    func write(_ lines: [String]) {
        let text = lines.map { printable($0) + "\n" }.joined()
        state.withLock { state in
            put(erasing(state.drawn) + text + drawing(state.drawn))
        }
    }

    /// Replaces the live lines by `lines`.
    func draw(_ lines: [TerminalLine]) {
        state.withLock { state in
            guard !state.isOver else { return }
            put(erasing(state.drawn) + drawing(lines))
            state.drawn = lines
        }
    }

    /// Removes the live lines. No live lines are drawn after that.
    func endDrawing() {
        state.withLock { state in
            if !state.drawn.isEmpty { put(erasing(state.drawn)) }
            (state.drawn, state.isOver) = ([], true)
        }
    }

    // MARK: Control sequences (ECMA-48)

    /// Returns control sequences that erase the live lines and move the cursor to the start of the first one. The
    /// cursor must be in the last live line. Each row is erased alone, because tmux copies the screen into its
    /// history if all rows are erased at once. If the terminal has become narrower, a line takes several rows.
    private func erasing(_ lines: [TerminalLine]) -> String {
        guard !lines.isEmpty else { return "" }
        let columns = Console.size.columns
        let below =
            lines.reduce(0) {
                $0 + max(1, (TerminalWidth.of($1.text) + columns - 1) / columns)
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

/// Writes `line`, made printable, and a line break to standard error. Ignores errors.
func writeErrorLine(_ line: String) {
    Console.shared.write([line])
}
