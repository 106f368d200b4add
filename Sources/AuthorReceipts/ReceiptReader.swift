// Reads the receipts of a folder. Each process appends its receipts to its own file:
//
//   <time>-<host>-<process>-<id>.receipts   one receipt per line: CRC-32 of the JSON (8 hex digits), space, JSON
//
// A line that is incomplete or damaged is ignored, and the files that it records are made again. Earlier versions
// wrote a file <id>.receipt for each receipt, which has only the JSON.

import Files
import Glibc
import Synchronization

/// Reads each receipt of a folder once, while processes may add receipts. Several threads can use the same reader.
package final class ReceiptReader: Sendable {
    private struct Progress {
        /// By the file's name: the number of bytes that were read.
        var positions: [String: Int] = [:]
        /// The places of receipts that are damaged or refused.
        var damage: [String] = []
    }

    private let progress = Mutex(Progress())

    /// Creates a reader that has read nothing.
    package init() {}

    /// The most bytes that are read from a file at once. The receipts of a run are never so long.
    private static let longest = 1 << 31

    /// Returns the receipts in `folder` that no earlier call returned, in the order of file names. Leaves out
    /// receipts that are damaged or that `isPossible` refuses, and adds them to `damage`. Leaves out files that
    /// cannot be read. Throws `FileError` if the folder cannot be listed, or if a file of receipts is a symlink or
    /// FIFO.
    package func new(
        in folder: Folder, _ isPossible: (AuthorReceipt) -> Bool = { _ in true }
    ) throws -> [AuthorReceipt] {
        try progress.withLock { progress in
            var receipts: [AuthorReceipt] = []
            func take(_ receipt: AuthorReceipt?, _ place: String) {
                if let receipt, isPossible(receipt) {
                    receipts.append(receipt)
                } else {
                    progress.damage.append(place)
                }
            }
            for name in try folder.names(endingIn: ".receipt")
            where progress.positions[name] == nil {
                guard let bytes = try ReceiptReader.bytes(of: name, in: folder, from: 0) else {
                    continue
                }
                progress.positions[name] = bytes.count
                take(AuthorReceipt(json: bytes), folder.path(of: name))
            }
            for name in try folder.names(endingIn: ".receipts") {
                let start = progress.positions[name] ?? 0
                let bytes = try ReceiptReader.bytes(of: name, in: folder, from: start) ?? []
                // The last line has no line break if its process is writing it, or was killed while it wrote it.
                guard let end = bytes.lastIndex(of: 0x0A) else { continue }
                for line in bytes[..<end].split(separator: 0x0A) {
                    take(
                        AuthorReceipt(line: line),
                        "\(folder.path(of: name)), byte \(start + line.startIndex)")
                }
                progress.positions[name] = start + end + 1
            }
            return receipts
        }
    }

    /// The places of receipts that are damaged or refused. A place is the path of the file, in a `.receipts` file
    /// with the byte offset.
    package var damage: [String] { progress.withLock { $0.damage } }

    /// Marks the first `count` bytes of the file called `name` as read, because this process has written them.
    package func skip(_ name: String, to count: Int) {
        progress.withLock { $0.positions[name] = count }
    }

    /// Forgets what was read, so that all receipts are read again.
    package func reset() { progress.withLock { $0 = Progress() } }

    /// Returns the bytes of the file from `start` on. Nil if there are none or the file cannot be read. Opens the
    /// file again in each call: only then does a network file system show what other machines have appended.
    private static func bytes(
        of name: String, in folder: Folder, from start: Int
    ) throws(FileError) -> [UInt8]? {
        let descriptor: Int32
        do {
            guard let opened = try folder.open(name) else { return nil }
            descriptor = opened
        } catch {
            // A run never creates symlinks or FIFOs, so such an entry is an error.
            if error.operation == "use" { throw error }
            return nil
        }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0, info.st_size > start,
            info.st_size - start <= longest
        else { return nil }
        let size = Int(info.st_size) - start
        return [UInt8](unsafeUninitializedCapacity: size) { out, count in
            count = 0
            while count < size {
                let got = pread(
                    descriptor, out.baseAddress! + count, size - count, off_t(start + count))
                if got < 0, errno == EINTR { continue }
                guard got > 0 else { break }
                count += got
            }
        }
    }
}
