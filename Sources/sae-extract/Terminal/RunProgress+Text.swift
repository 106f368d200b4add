// Formats progress as text: live lines that fit the terminal, log lines, JSON.

import ArrayFiles
import ByteJSON
import Files
import FoundationEssentials
import Glibc
import Results

extension RunProgress {
    /// A part of a live line. If the line is too long, the part with the highest `dispensability` is left out first.
    private struct Part {
        var text: String
        var dispensability: Int
    }

    /// Returns a live line for each worker. If there are several workers, adds a line for all of them together.
    /// Returns at most `rows` lines of at most `columns` columns.
    func liveLines(at time: Double, columns: Int, rows: Int) -> [TerminalLine] {
        let all = workers.count > 1
        // If there are too few rows, failed workers are shown first, then running workers, then finished workers.
        let room = max(1, rows - (all ? 1 : 0))
        var shown = Array(workers.indices)
        if shown.count > room {
            func weight(_ worker: WorkerProgress) -> Int {
                worker.phase == .failed ? 0 : worker.isRunning ? 1 : 2
            }
            shown = Array(
                shown.sorted { (weight(workers[$0]), $0) < (weight(workers[$1]), $1) }
                    .prefix(max(0, room - 1))
            ).sorted()
        }
        var lines = shown.map { line(of: workers[$0], at: time, columns: columns) }
        if shown.count < workers.count {
            lines.append(
                TerminalLine(
                    text: TerminalWidth.fitted(
                        "\(workers.count - shown.count)\(shown.isEmpty ? "" : " more") workers",
                        columns)))
        }
        if all { lines.append(wholeLine(at: time, columns: columns)) }
        return Array(lines.suffix(max(1, rows)))
    }

    private func line(of worker: WorkerProgress, at time: Double, columns: Int) -> TerminalLine {
        let name = workers.count > 1 ? "rank \(worker.rank)" : ""
        let (done, total) = (worker.documentsDone, worker.documentsTotal)
        var parts = [
            Part(
                text: worker.author.map { TerminalWidth.fitted(printable($0), 24) } ?? "",
                dispensability: 1),
            Part(text: "\(done)/\(total) documents", dispensability: 3),
        ]
        if worker.isRunning {
            parts += [
                Part(text: "\(RunProgress.grouped(worker.tokens)) tokens", dispensability: 6),
                Part(
                    text: worker.rate(at: time).map { "\(RunProgress.grouped(Int($0))) tokens/s" }
                        ?? "",
                    dispensability: 4),
                Part(
                    text: worker.secondsLeft(at: time).map { "\(RunProgress.duration($0)) left" }
                        ?? "",
                    dispensability: 2),
                Part(text: worker.memory.map { byteCount($0) } ?? "", dispensability: 8),
                Part(
                    text: worker.deviceMemory.map { "GPU \(byteCount($0))" } ?? "",
                    dispensability: 7),
            ]
        }
        if worker.phase != .computing {
            parts.insert(Part(text: worker.phase.rawValue, dispensability: 0), at: 0)
        }
        return TerminalLine(
            text: RunProgress.composed(name, Double(done) / Double(max(total, 1)), parts, columns),
            isAlarm: worker.phase == .failed)
    }

    private func wholeLine(at time: Double, columns: Int) -> TerminalLine {
        let (done, total) = (documentsDone, documentsTotal)
        let failed = workers.count { $0.phase == .failed }
        let parts = [
            Part(text: failed > 0 ? "\(failed) failed" : "", dispensability: 0),
            Part(text: "\(done)/\(total) documents", dispensability: 1),
            Part(text: "\(RunProgress.grouped(tokens)) tokens", dispensability: 5),
            Part(
                text: rate(at: time).map { "\(RunProgress.grouped(Int($0))) tokens/s" } ?? "",
                dispensability: 4),
            Part(
                text: secondsLeft(at: time).map { "\(RunProgress.duration($0)) left" } ?? "",
                dispensability: 2),
            Part(
                text: byteCount(workers.reduce(0) { $0 + ($1.memory ?? 0) }), dispensability: 6),
        ]
        return TerminalLine(
            text: RunProgress.composed("all", Double(done) / Double(max(total, 1)), parts, columns),
            isAlarm: failed > 0)
    }

    /// Returns a live line: "rank 3 [=====>    ]  52 %  part  part". To fit the line into `columns`, first makes the
    /// bar shorter, then leaves out parts.
    private static func composed(
        _ name: String, _ share: Double, _ parts: [Part], _ columns: Int
    ) -> String {
        var parts = parts.filter { !$0.text.isEmpty }
        let percent = "\(Int((100 * min(1, share)).rounded(.down)))"
        let head =
            (name.isEmpty ? "" : name + " ") + "%%"
            + String(repeating: " ", count: 3 - percent.count)
            + percent + " %"
        func text(bar: String) -> String {
            ([head.replacing("%%", with: bar)] + parts.map(\.text)).joined(separator: "  ")
        }
        while !parts.isEmpty, TerminalWidth.of(text(bar: "")) > columns {
            let last = parts.indices.max { parts[$0].dispensability < parts[$1].dispensability }!
            parts.remove(at: last)
        }
        let room = columns - TerminalWidth.of(text(bar: "")) - 3
        guard room >= 6 else { return TerminalWidth.fitted(text(bar: ""), columns) }
        let length = min(room, 24)
        let filled = Int(Double(length) * min(1, share))
        let isFull = filled == length
        let bar =
            String(repeating: "=", count: isFull ? length : max(0, filled - 1))
            + (isFull || filled == 0 ? "" : ">") + String(repeating: " ", count: length - filled)
        return text(bar: "[\(bar)] ")
    }

    /// Returns the progress of all workers as a log line.
    func plainLine(at time: Double) -> String {
        let (done, total) = (documentsDone, documentsTotal)
        var parts = [
            "progress: \(done) of \(total) documents (\(100 * done / max(total, 1)) %)",
            "\(tokens) tokens",
        ]
        if let rate = rate(at: time) { parts.append("\(Int(rate)) tokens/s") }
        if let left = secondsLeft(at: time) { parts.append("\(RunProgress.duration(left)) left") }
        parts.append("\(byteCount(workers.reduce(0) { $0 + ($1.memory ?? 0) })) of memory")
        let device = workers.compactMap(\.deviceMemory)
        if !device.isEmpty { parts.append("\(byteCount(device.reduce(0, +))) on GPUs") }
        let at = workers.filter(\.isRunning).compactMap(\.author)
        if !at.isEmpty { parts.append("working on \(at.joined(separator: ", "))") }
        let failed = workers.filter { $0.phase == .failed }.map { "\($0.rank)" }
        if !failed.isEmpty { parts.append("failed: rank \(failed.joined(separator: ", "))") }
        return parts.joined(separator: ", ")
    }

    /// Returns the progress as JSON on one line, without the line break.
    func jsonLine(at time: Double) -> [UInt8] {
        func optional(_ value: Double?) -> JSONValue {
            value.map { .number(($0 * 10).rounded() / 10) } ?? .null
        }
        let object: JSONObject = [
            "event": "progress", "seconds": optional(time),
            "documents_done": .integer(documentsDone), "documents_total": .integer(documentsTotal),
            "authors_done": .integer(authors.count),
            "tokens": .integer(tokens), "tokens_per_second": optional(rate(at: time)),
            "seconds_left": optional(secondsLeft(at: time)),
            "workers": .array(
                workers.map {
                    .object([
                        "rank": .integer($0.rank), "state": .string($0.phase.rawValue),
                        "author": $0.author.map(JSONValue.string) ?? .null,
                        "documents_done": .integer($0.documentsDone),
                        "documents_total": .integer($0.documentsTotal),
                        "tokens": .integer($0.tokens),
                        "tokens_per_second": optional($0.rate(at: time)),
                        "seconds_left": optional($0.secondsLeft(at: time)),
                        "memory": $0.memory.map(JSONValue.integer) ?? .null,
                        "device_memory": $0.deviceMemory.map(JSONValue.integer) ?? .null,
                    ])
                }),
        ]
        var line: [UInt8] = []
        JSONText.append(compact: .object(object), to: &line)
        return line
    }

    // MARK: Numbers

    /// Returns a duration as "1:02:03" or "02:03", rounded up to whole seconds.
    static func duration(_ seconds: Double) -> String {
        let whole = Int(min(seconds, 359_999_999).rounded(.up))
        func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let (hours, minutes) = (whole / 3600, whole / 60 % 60)
        return (hours > 0 ? "\(hours):" : "") + "\(two(minutes)):\(two(whole % 60))"
    }

    /// Returns `value` with commas between thousands: "1,234,567".
    static func grouped(_ value: Int) -> String {
        var digits = Array(String(value))
        var place = digits.count - 3
        while place > 0 {
            digits.insert(",", at: place)
            place -= 3
        }
        return String(digits)
    }
}
