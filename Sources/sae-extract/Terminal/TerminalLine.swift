// A live line, with its text and its colour.

import Files

/// A line of the live progress display.
struct TerminalLine: Equatable {
    /// The text, made printable.
    let text: String
    /// Whether the line reports a failure. Such a line is shown in red.
    let isAlarm: Bool

    init(text: String, isAlarm: Bool = false) {
        (self.text, self.isAlarm) = (printable(text), isAlarm)
    }
}
