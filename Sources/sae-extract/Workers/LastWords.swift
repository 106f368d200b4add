// The lines that a worker wrote to standard error before it crashed.

/// Collects the lines of standard error that may tell why a process ended. They are the last two lines before a
/// crash, the Swift runtime's line about a failed check, and the start of the runtime's crash report.
struct LastWords {
    /// The Swift runtime's line about a failed check. Nil if no such line has come.
    private(set) var failure: String?
    /// Whether the first frame of the crash report is in Swift code. Then an invalid instruction comes from a failed
    /// check, because all other instructions of the Swift code run on every x86-64 processor.
    private(set) var crashIsInSwift = false
    private var last: [String] = []
    /// Lines of the crash report: the reason, and the first frames of the crashed thread.
    private var crash: [String] = []
    private var part = Part.before

    /// The parts of standard error, in order: the lines before the crash report, the report's lines before the
    /// frames, the frames, and the lines after the frames.
    private enum Part {
        case before, front, frames, rest
    }

    /// The maximum number of last lines and of frames that are kept.
    private static let kept = (lines: 2, frames: 3)

    /// Adds the next line of standard error.
    mutating func add(_ line: String) {
        let line = String(line.drop(while: \.isWhitespace))
        guard !line.isEmpty else { return }
        if failure == nil,
            ["Fatal error", "Swift runtime failure: "].contains(where: line.contains)
        {
            failure = line
        }
        switch part {
        case .before:
            if line.hasPrefix("*** Signal ") || line.hasPrefix("*** Program crashed: ") {
                part = .front
                addToReport(line)
            } else if failure == nil {
                last = last.suffix(LastWords.kept.lines - 1) + [line]
            }
        case .front: addToReport(line)
        case .frames:
            if crash.count > LastWords.kept.frames || line.first?.isNumber != true {
                part = .rest
            } else {
                crashIsInSwift =
                    crashIsInSwift
                    || line.hasPrefix("0 ")
                        && [".swift:", "<compiler-generated>"].contains(where: line.contains)
                crash.append(line)
            }
        case .rest: break
        }
    }

    private mutating func addToReport(_ line: String) {
        if line.hasPrefix("*** Program crashed: ") { crash = [line] }
        if line.hasPrefix("Thread "), line.hasSuffix("crashed:") { part = .frames }
    }

    /// The collected lines in the order of their arrival, joined by " / ". Empty if no lines were collected.
    var description: String {
        let failure = failure.flatMap { crash.contains($0) ? nil : $0 }
        return (last + (failure.map { [$0] } ?? []) + crash).joined(separator: " / ")
    }
}
