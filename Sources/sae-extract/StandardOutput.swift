// Results for people and pipes.

import ArrayFiles
import Glibc

/// Writes `text` to standard output. Throws `FileError`; where nobody reads it any more, that is no error.
func printToStandardOutput(_ text: String) throws {
    try printToStandardOutput(Array(text.utf8))
}

/// The same of UTF-8.
func printToStandardOutput(_ text: [UInt8]) throws {
    do {
        try text.withUnsafeBytes {
            try writeAll($0, to: STDOUT_FILENO, path: "standard output")
        }
    } catch let error as FileError where error.code == EPIPE {
        // Whoever read it has seen enough.
    }
}
