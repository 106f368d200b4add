// Appends receipts to the file of this process.

import AuthorReceipts
import Files
import FoundationEssentials
import Glibc
import Synchronization

/// The file to which this process appends its receipts.
final class ReceiptWriter: Sendable {
    /// The file's name in the state folder.
    let name: String
    private let place: GuardedPath
    private let descriptor: Int32
    private let end: Mutex<Int>

    /// Creates the file in the folder of `state`, with `receipt` as its first line. Throws `StateRemovedError` and
    /// `FileError`.
    init(_ state: StateFolder, _ receipt: AuthorReceipt) throws {
        name =
            AppendedFile.newName(host: ProcessInfo.processInfo.hostName, process: getpid())
            + ".receipts"
        place = state.directory / name
        let line = try receipt.line()
        descriptor = try state.makeFileKeepingOpen(place) { try $0.write(line) }
        end = Mutex(line.count)
        try state.directory.synchronize()
    }

    deinit { close(descriptor) }

    /// The number of bytes in the file.
    var count: Int { end.withLock { $0 } }

    /// Appends `receipt` and synchronizes the file. Throws `FileError`. Throws `StateRemovedError` if the path no
    /// longer names this file, because other processes would not find the receipt.
    func append(_ receipt: AuthorReceipt) throws {
        let line = try receipt.line()
        try end.withLock { end in
            do {
                try line.withUnsafeBytes { try writeAll($0, to: descriptor, path: place.path) }
                guard synchronizeToDisk(descriptor, dataOnly: true) else {
                    throw FileError("write", place.path)
                }
            } catch {
                // Removes the incomplete line. Otherwise, the next receipt would continue it.
                AppendedFile.cutOff(descriptor, at: end)
                throw error
            }
            end += line.count
        }
        try AppendedFile.checkInPlace(descriptor, place)
    }
}
