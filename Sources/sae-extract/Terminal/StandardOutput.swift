// Writes results to standard output.

import Files
import Glibc

/// Writes `line`, made printable, and a line break to standard output. Throws `FileError` if this fails. A closed
/// pipe is no error.
func printLine(_ line: String) throws {
    try printLines([line])
}

/// Writes `lines` like `printLine`.
func printLines(_ lines: [String]) throws {
    try printToStandardOutput(Array(lines.map { printable($0) + "\n" }.joined().utf8))
}

/// Writes JSON and a line break to standard output. Unprintable characters become JSON escapes, so the value stays
/// the same. Throws the same errors as `printLine`.
func printJSON(_ text: [UInt8]) throws {
    try printToStandardOutput(printableJSON(text) + [0x0A])
}

private func printToStandardOutput(_ text: [UInt8]) throws {
    do {
        try text.withUnsafeBytes {
            try writeAll($0, to: STDOUT_FILENO, path: "standard output")
        }
    } catch let error as FileError where error.code == EPIPE {
        // A closed pipe is not an error: the reader (`head`, for example) has read enough.
    }
}
