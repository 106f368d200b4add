// The width of text in a terminal.

import Glibc

/// Measures and cuts text in terminal columns.
enum TerminalWidth {
    /// Returns the number of columns that `text` takes in a terminal.
    static func of(_ text: String) -> Int {
        text.unicodeScalars.reduce(0) { width, scalar in
            width + (scalar.isASCII ? 1 : max(0, Int(columns(scalar.value))))
        }
    }

    /// The C function wcwidth(3), which Swift does not import. If it is missing, each character counts as one column.
    private static let columns: @convention(c) (UInt32) -> Int32 = {
        guard let symbol = dlsym(nil, "wcwidth") else { return { _ in 1 } }
        return unsafeBitCast(symbol, to: (@convention(c) (UInt32) -> Int32).self)
    }()

    /// Returns the longest start of `text` that fits into `columns` columns.
    static func fitted(_ text: String, _ columns: Int) -> String {
        guard of(text) > columns else { return text }
        var (out, width) = ("", 0)
        for character in text {
            let own = of(String(character))
            guard width + own <= columns else { break }
            out.append(character)
            width += own
        }
        // Removes a joiner at the end (U+200D, for example). It would be printed as an escape, which takes columns.
        while out.unicodeScalars.last?.properties.isJoinControl == true {
            out.unicodeScalars.removeLast()
        }
        return out
    }
}
