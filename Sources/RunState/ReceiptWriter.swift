// The file of receipts that a process writes.

import AuthorReceipts
import Files
import FoundationEssentials
import Glibc
import Synchronization

/// The file that this process appends its receipts to.
package final class ReceiptWriter: Sendable {
    /// The file's name in the folder, and its path.
    let name: String
    private let place: GuardedPath
    private let descriptor: Int32
    private let end: Mutex<Int>

    /// Makes the file, with `receipt` in it, in `state`'s folder. Throws `StateRemovedError` and `FileError`.
    init(_ state: StateFolder, _ receipt: AuthorReceipt) throws {
        name =
            uniqueName(host: ProcessInfo.processInfo.hostName, process: getpid()) + ".receipts"
        place = state.directory / name
        let line = try receipt.line()
        descriptor = try state.makeFileKeepingOpen(place) { try $0.write(line) }
        end = Mutex(line.count)
        try state.directory.synchronize()
    }

    deinit { close(descriptor) }

    /// Bytes in the file.
    var count: Int { end.withLock { $0 } }

    /// Appends `receipt` and brings it to the disk. Fails where the file is not in its place any more, so that nobody else
    /// sees what it says. Throws `StateRemovedError` and `FileError`.
    func append(_ receipt: AuthorReceipt) throws {
        let line = try receipt.line()
        try end.withLock { end in
            do {
                try line.withUnsafeBytes { try writeAll($0, to: descriptor, path: place.path) }
                guard synchronizeToDisk(descriptor, dataOnly: true) else {
                    throw FileError("write", place.path)
                }
            } catch {
                // Half a line would spoil the next one.
                cutOff(descriptor, at: end)
                throw error
            }
            end += line.count
        }
        try checkInPlace(descriptor, place)
    }
}
