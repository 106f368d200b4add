// Functions for files to which one process appends: journals and files of receipts.

import Files
import FoundationEssentials
import Glibc

/// Functions that name, check or shorten a file to which one process appends.
enum AppendedFile {
    /// Returns a new file name, without its ending. Names sort by time. A random number keeps the names of different
    /// processes apart.
    static func newName(host: String, process: Int32) -> String {
        let time = Date().formatted(.iso8601).filter { $0.isLetter || $0.isNumber }
        let host = host.filter { $0.isASCII && ($0.isLetter || $0.isNumber) }
        let id = String(UInt32.random(in: .min ... .max), radix: 16)
        return "\(time)-\(host.prefix(40))-\(process)-\(id)"
    }

    /// Throws `StateRemovedError` if `place` no longer names the file that is open as `descriptor`. In a removed or
    /// replaced file, other processes would not find the content.
    static func checkInPlace(_ descriptor: Int32, _ place: GuardedPath) throws {
        var own = stat()
        guard fstat(descriptor, &own) == 0, let there = try? place.status(),
            own.st_dev == there.st_dev, own.st_ino == there.st_ino
        else { throw StateRemovedError(path: place.path) }
    }

    /// Shortens the file to `end` bytes and moves the write position to its new end.
    static func cutOff(_ descriptor: Int32, at end: Int) {
        ftruncate(descriptor, off_t(end))
        lseek(descriptor, off_t(end), SEEK_SET)
    }
}
