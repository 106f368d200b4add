// What a worker wrote to standard error before it crashed.

/// The lines of a process' standard error that tell why it ended: its last lines. If the Swift runtime or its crash report wrote
/// the reason, then the lines with the reason, which precede the last lines.
struct LastWords {
    /// The Swift runtime's line about a failed check.
    private(set) var failure: String?
    /// Whether the crash report places the crash in Swift code. Swift code is compiled for every x86-64 processor, so an invalid
    /// instruction there is a failed check.
    private(set) var crashIsInSwift = false
    private var last: [String] = []
    /// From the crash report: what happened, and the first frames of the crashed thread.
    private var crash: [String] = []
    private var part = Part.before

    /// The part of a crash report that the next line belongs to.
    private enum Part {
        case before, front, frames, rest
    }

    /// The maximum number of last lines and of frames.
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

    /// The lines in the order of their arrival, joined by " / ". Empty: no lines.
    var description: String {
        let failure = failure.flatMap { crash.contains($0) ? nil : $0 }
        return (last + (failure.map { [$0] } ?? []) + crash).joined(separator: " / ")
    }
}
