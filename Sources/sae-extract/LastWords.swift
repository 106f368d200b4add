// What a worker that has crashed said of it.

/// The lines of a process' standard error that tell why it ended: its last ones or, where Swift's runtime or its crash report
/// wrote them, those of them that have the reason, which come first.
struct LastWords {
    /// What Swift's runtime said of a check that failed.
    private(set) var failure: String?
    /// Whether a crash report has the crash in code of Swift's, which is made for any processor.
    private(set) var crashIsInSwift = false
    private var last: [String] = []
    /// What a crash report says happened, and the first frames of the thread that crashed.
    private var crash: [String] = []
    private var part = Part.before

    /// Where in a crash report the next line is.
    private enum Part {
        case before, front, frames, rest
    }

    /// How many lines are kept, and how many frames.
    private static let kept = (lines: 2, frames: 3)

    /// Takes in the next line.
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

    /// The lines in the order in which they came; empty where there are none.
    var description: String {
        let failure = failure.flatMap { crash.contains($0) ? nil : $0 }
        return (last + (failure.map { [$0] } ?? []) + crash).joined(separator: " / ")
    }
}
