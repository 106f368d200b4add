// A pseudo-terminal for the program's standard error, and a model of the screen that shows what the program writes.

import Foundation
import Glibc

/// The content of a terminal of a given width, including lines that have scrolled off the screen.
///
/// It supports the control sequences (ECMA-48) of a live display: line ends, cursor up and down, erasing to the end
/// of the row, colours. A line that is longer than the width takes several rows. The rows join again if the screen
/// becomes wider.
package struct TerminalScreen {
    /// One line of text. It may take several rows of the screen.
    private struct Line {
        var cells: [Character] = []
    }

    private var lines = [Line()]
    /// The cursor. `line` is an index into `lines`, and `place` is an index into the cells of that line.
    private var line = 0
    private var place = 0
    /// The number of columns of the screen.
    package var columns: Int
    /// Whether the text contained a colour sequence (SGR).
    package private(set) var hasColor = false

    /// Creates an empty screen of `columns` columns.
    package init(columns: Int) {
        self.columns = columns
    }

    /// All lines, each unwrapped and without trailing spaces.
    package var text: [String] {
        lines.map { String(String($0.cells).reversed().drop { $0 == " " }.reversed()) }
    }

    /// The number of rows that `line` takes on the screen, at least 1.
    private func rows(_ line: Line) -> Int { max(1, (line.cells.count + columns - 1) / columns) }

    /// Applies `text` to the screen. An unsupported control sequence ends the process.
    package mutating func write(_ text: String) {
        var rest = Substring(text)
        while let character = rest.popFirst() {
            switch character {
            case "\n", "\r\n": newLine()
            case "\r": place = place / columns * columns
            case "\u{1B}":
                precondition(rest.popFirst() == "[")
                let digits = rest.prefix { $0.isNumber || $0 == ";" }
                rest = rest.dropFirst(digits.count)
                control(rest.popFirst()!, Int(digits) ?? 1)
            default: put(character)
            }
        }
    }

    private mutating func newLine() {
        line += 1
        place = 0
        if line == lines.count { lines.append(Line()) }
    }

    private mutating func put(_ character: Character) {
        while lines[line].cells.count <= place { lines[line].cells.append(" ") }
        lines[line].cells[place] = character
        place += 1
    }

    private mutating func control(_ code: Character, _ count: Int) {
        switch code {
        case "A":
            var row = place / columns
            for _ in 0..<count {
                if row > 0 {
                    row -= 1
                } else if line > 0 {
                    line -= 1
                    row = rows(lines[line]) - 1
                }
            }
            place = row * columns
        case "B":
            // Moves down one row, if a next row exists.
            if place / columns + 1 < rows(lines[line]) {
                place += columns
            } else if line + 1 < lines.count {
                line += 1
                place %= columns
            }
        case "K":
            // Erases the rest of the row. If the line has further rows, they become a separate line.
            let end = (place / columns + 1) * columns
            let further = lines[line].cells.dropFirst(end)
            lines[line].cells.removeSubrange(min(place, lines[line].cells.count)...)
            if !further.isEmpty { lines.insert(Line(cells: Array(further)), at: line + 1) }
        case "m": hasColor = true
        default: preconditionFailure("control sequence \(code)")
        }
    }
}

/// A running program whose standard error is a pseudo-terminal.
package final class TerminalRun {
    private let process: RunningCommand
    private let master: Int32
    /// Bytes that were read from the terminal but are not applied to `screen` yet.
    private var pending: [UInt8] = []
    /// The screen after all output that was read so far.
    package private(set) var screen: TerminalScreen
    /// All output that was read so far, including control sequences.
    package private(set) var output = ""
    /// The lines of the screen after each redraw, oldest first.
    package private(set) var frames: [[String]] = []

    /// Starts the program on a terminal of `columns` by `rows`. The other parameters are those of `Tool.run`.
    package init(
        _ arguments: [String], columns: Int, rows: Int = 24, environment: [String: String?] = [:],
        launcher: [String] = []
    ) throws {
        // Swift has no posix_openpt(3), unlockpt(3) and ptsname(3). The ioctls TIOCSPTLCK and TIOCGPTN (ioctl_tty(2))
        // do the same.
        master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var (lock, number): (Int32, Int32) = (0, 0)
        guard master >= 0, ioctl(master, 0x4004_5431, &lock) == 0,
            ioctl(master, 0x8004_5430, &number) == 0
        else { throw POSIXError(.ENOTTY) }
        let slave = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
        screen = TerminalScreen(columns: columns)
        var settings = termios()
        tcgetattr(slave, &settings)
        // Without OPOST, the terminal does not replace a newline by carriage return and newline.
        settings.c_oflag &= ~tcflag_t(OPOST)
        tcsetattr(slave, TCSANOW, &settings)
        TerminalRun.setSize(of: master, columns: columns, rows: rows)
        process = try Tool.start(
            arguments,
            environment: ["TERM": "xterm-256color", "NO_COLOR": nil].merging(environment) { $1 },
            launcher: launcher
        ) { $0.standardError = FileHandle(fileDescriptor: slave, closeOnDealloc: false) }
        close(slave)
    }

    deinit { close(master) }

    /// Changes the terminal's size, as when a user drags a window. First stops the program (SIGSTOP) and applies its
    /// whole output to the screen of the old size. Then changes the size and continues the program.
    package func resize(columns: Int, rows: Int = 24) {
        kill(identifier, SIGSTOP)
        while process.isRunning, !isStopped { usleep(200) }
        var ready = pollfd(fd: master, events: Int16(POLLIN), revents: 0)
        while poll(&ready, 1, 0) > 0, take() {}
        TerminalRun.setSize(of: master, columns: columns, rows: rows)
        screen.columns = columns
        kill(identifier, SIGCONT)
    }

    /// Whether all threads of the program are stopped.
    private var isStopped: Bool {
        let tasks = "/proc/\(identifier)/task"
        let threads = (try? FileManager.default.contentsOfDirectory(atPath: tasks)) ?? []
        return threads.allSatisfy {
            let text = (try? String(contentsOfFile: "\(tasks)/\($0)/stat", encoding: .utf8)) ?? ""
            return text.isEmpty || text.contains(") T ")
        }
    }

    private static func setSize(of master: Int32, columns: Int, rows: Int) {
        var size = winsize(
            ws_row: UInt16(rows), ws_col: UInt16(columns), ws_xpixel: 0, ws_ypixel: 0)
        _ = ioctl(master, UInt(TIOCSWINSZ), &size)
    }

    /// The process ID of the program.
    package var identifier: pid_t { process.identifier }

    /// Reads output until `condition` is true for the lines of the screen, or until the program ends. Returns whether
    /// `condition` is true.
    @discardableResult
    package func read(until condition: ([String]) -> Bool = { _ in false }) -> Bool {
        while take() {
            if condition(screen.text) { return true }
        }
        return condition(screen.text)
    }

    /// Waits for output and applies it to the screen. Returns false at the end of the output.
    private func take() -> Bool {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var count = Glibc.read(master, &buffer, buffer.count)
        while count < 0, errno == EINTR { count = Glibc.read(master, &buffer, buffer.count) }
        guard count > 0 else { return false }
        pending += buffer[..<count]
        // If the text ends within a character or at the start of a control sequence, waits for the next read.
        guard let text = String(validating: pending, as: UTF8.self),
            !(text.last == "\u{1B}" || text.hasSuffix("\u{1B}["))
        else { return true }
        pending = []
        output += text
        // Each redraw begins with a carriage return. One read may return several redraws.
        for piece in text.split(separator: "\r", omittingEmptySubsequences: false).enumerated() {
            if piece.offset > 0 { screen.write("\r") }
            screen.write(String(piece.element))
            frames.append(screen.text)
        }
        return true
    }

    /// Reads the remaining output and waits until the program ends. Returns its exit code.
    package func wait() -> Int32 {
        read()
        return process.wait()
    }
}
