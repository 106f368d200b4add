// A terminal that a program believes in: a pseudo-terminal, and what a screen would show of what is written to it.

import Foundation
import Glibc

/// What a terminal of some size shows, and what has scrolled off it. Of ECMA-48 it knows what a live display needs: line
/// ends, cursor up and down, erasing a row, colours. Lines that are too long are broken, and joined again when it is widened.
public struct TerminalScreen {
    /// One line as written, however many rows it takes.
    private struct Line {
        var cells: [Character] = []
    }

    private var lines = [Line()]
    /// The cursor: a line, and a place in it.
    private var line = 0
    private var place = 0
    /// Columns of the screen.
    public var columns: Int
    /// Whether a colour was asked for.
    public private(set) var hasColor = false

    /// An empty screen.
    public init(columns: Int) {
        self.columns = columns
    }

    /// All lines as written, without trailing blanks.
    public var text: [String] {
        lines.map { String(String($0.cells).reversed().drop { $0 == " " }.reversed()) }
    }

    /// Rows that `line` takes.
    private func rows(_ line: Line) -> Int { max(1, (line.cells.count + columns - 1) / columns) }

    /// Takes in what was written. Everything that it does not know ends the test.
    public mutating func write(_ text: String) {
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
            // Down a row, where there is one.
            if place / columns + 1 < rows(lines[line]) {
                place += columns
            } else if line + 1 < lines.count {
                line += 1
                place %= columns
            }
        case "K":
            // The rest of the row; what the line had on further rows is a line of its own then.
            let end = (place / columns + 1) * columns
            let further = lines[line].cells.dropFirst(end)
            lines[line].cells.removeSubrange(min(place, lines[line].cells.count)...)
            if !further.isEmpty { lines.insert(Line(cells: Array(further)), at: line + 1) }
        case "m": hasColor = true
        default: preconditionFailure("control sequence \(code)")
        }
    }
}

/// A run of the binary whose standard error is a pseudo-terminal.
public final class TerminalRun {
    private let process = Process()
    private let watchdog: Watchdog
    private let master: Int32
    /// Written, but not taken in yet.
    private var pending: [UInt8] = []
    /// What the screen shows so far.
    public private(set) var screen: TerminalScreen
    /// All that was written, as it came.
    public private(set) var output = ""
    /// What the screen showed: all that was there for any time, however late it is read here.
    public private(set) var frames: [[String]] = []

    /// Starts the binary on a terminal of `columns` and `rows`.
    public init(
        _ arguments: [String], columns: Int, rows: Int = 24, environment: [String: String?] = [:],
        launcher: [String] = []
    ) throws {
        // posix_openpt(3) and its companions, which Swift does not see: TIOCSPTLCK and TIOCGPTN (ioctl_tty(2)).
        master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var (lock, number): (Int32, Int32) = (0, 0)
        guard master >= 0, ioctl(master, 0x4004_5431, &lock) == 0,
            ioctl(master, 0x8004_5430, &number) == 0
        else { throw POSIXError(.ENOTTY) }
        let slave = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
        screen = TerminalScreen(columns: columns)
        var settings = termios()
        tcgetattr(slave, &settings)
        // Line ends as they were written.
        settings.c_oflag &= ~tcflag_t(OPOST)
        tcsetattr(slave, TCSANOW, &settings)
        TerminalRun.setSize(of: master, columns: columns, rows: rows)
        let command = launcher + [Tool.path] + arguments
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = Array(command.dropFirst())
        process.environment = Tool.environment(
            ["TERM": "xterm-256color", "NO_COLOR": nil].merging(environment) { $1 })
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle(fileDescriptor: slave, closeOnDealloc: false)
        try process.run()
        watchdog = Watchdog(process)
        close(slave)
    }

    deinit { close(master) }

    /// Another size, as when a window is dragged. What the program has written for the size before is taken in before:
    /// else it would be shown on a screen that it was not meant for, as can happen on every terminal.
    public func resize(columns: Int, rows: Int = 24) {
        kill(identifier, SIGSTOP)
        while process.isRunning, !isStopped { usleep(200) }
        var ready = pollfd(fd: master, events: Int16(POLLIN), revents: 0)
        while poll(&ready, 1, 0) > 0, take() {}
        TerminalRun.setSize(of: master, columns: columns, rows: rows)
        screen.columns = columns
        kill(identifier, SIGCONT)
    }

    /// Whether all its threads are.
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

    /// The program's process number.
    public var identifier: pid_t { process.processIdentifier }

    /// Takes in what is written until `condition` holds of the screen's lines, or the program ends; whether it held.
    @discardableResult
    public func read(until condition: ([String]) -> Bool = { _ in false }) -> Bool {
        while take() {
            if condition(screen.text) { return true }
        }
        return condition(screen.text)
    }

    /// Waits for something to be written and takes it in; false where nothing will be.
    private func take() -> Bool {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var count = Glibc.read(master, &buffer, buffer.count)
        while count < 0, errno == EINTR { count = Glibc.read(master, &buffer, buffer.count) }
        guard count > 0 else { return false }
        pending += buffer[..<count]
        // Not in the middle of a character or a control sequence.
        guard let text = String(validating: pending, as: UTF8.self),
            !(text.last == "\u{1B}" || text.hasSuffix("\u{1B}["))
        else { return true }
        pending = []
        output += text
        // Drawings begin with a carriage return. One read may bring a drawing and the next, which takes its place.
        for piece in text.split(separator: "\r", omittingEmptySubsequences: false).enumerated() {
            if piece.offset > 0 { screen.write("\r") }
            screen.write(String(piece.element))
            frames.append(screen.text)
        }
        return true
    }

    /// Takes in the rest and waits for the end: the exit code.
    public func wait() -> Int32 {
        read()
        process.waitUntilExit()
        return process.terminationStatus
    }
}
