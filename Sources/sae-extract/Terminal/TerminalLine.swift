// A line of the live display.

import Files

/// A line of the live display.
struct TerminalLine: Equatable {
    /// The text, made printable.
    let text: String
    /// Whether the line reports a failure. It is shown in red then.
    let isAlarm: Bool

    init(text: String, isAlarm: Bool = false) {
        (self.text, self.isAlarm) = (printable(text), isAlarm)
    }
}
