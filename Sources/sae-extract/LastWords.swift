// What a worker that has crashed said of it.

/// The lines of a process' standard error that tell why it ended: its last ones or, where Swift's runtime or its crash report
/// wrote them, the first of those, which have the reason.
struct LastWords {
    /// What Swift's runtime said of a check that failed, or a crash report of the frame where it did.
    private(set) var failure: String?
    /// The first lines of a crash report.
    private var report: [String] = []
    private var last: [String] = []

    /// How many lines of a crash report are kept, and how many others.
    private static let kept = (report: 4, last: 2)

    /// Takes in the next line.
    mutating func add(_ line: String) {
        let line = String(line.drop(while: \.isWhitespace))
        guard !line.isEmpty else { return }
        if failure == nil,
            ["Fatal error", "Swift runtime failure: "].contains(where: line.contains)
        {
            failure = line
            return
        }
        if report.isEmpty, line.hasPrefix("*** ") || line.hasPrefix("💣 ") {
            report = [line]
        } else if !report.isEmpty {
            if report.count < LastWords.kept.report { report.append(line) }
        } else if failure == nil {
            last = last.suffix(LastWords.kept.last - 1) + [line]
        }
    }

    /// The lines in the order in which they came; empty where there are none.
    var description: String {
        (last + (failure.map { [$0] } ?? []) + report).joined(separator: " / ")
    }
}
