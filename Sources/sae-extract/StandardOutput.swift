// Results for people and pipes.

import ArrayFiles
import Glibc

/// Writes `text` to standard output. Throws `FileError`; where nobody reads it any more, that is no error.
func printToStandardOutput(_ text: String) throws {
    do {
        try Array(text.utf8).withUnsafeBytes {
            try writeAll($0, to: STDOUT_FILENO, path: "standard output")
        }
    } catch let error as FileError where error.code == EPIPE {
        // Whoever read it has seen enough.
    }
}
