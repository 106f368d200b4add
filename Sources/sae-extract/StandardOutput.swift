// Results for people and pipes.

import Files
import Glibc

/// Writes `line`, made printable, and its end to standard output. Throws `FileError`; where nobody reads it any more, that
/// is no error.
func printLine(_ line: String) throws {
    try printLines([line])
}

/// The same of several lines.
func printLines(_ lines: [String]) throws {
    try printToStandardOutput(Array(lines.map { printable($0) + "\n" }.joined().utf8))
}

/// The same of a line of JSON, which stays the same JSON.
func printJSON(_ text: [UInt8]) throws {
    try printToStandardOutput(printableJSON(text) + [0x0A])
}

private func printToStandardOutput(_ text: [UInt8]) throws {
    do {
        try text.withUnsafeBytes {
            try writeAll($0, to: STDOUT_FILENO, path: "standard output")
        }
    } catch let error as FileError where error.code == EPIPE {
        // Whoever read it has seen enough.
    }
}
