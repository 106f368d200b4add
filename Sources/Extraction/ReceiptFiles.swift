// Receipts on the disk. A process appends its own to one file, which appears with the first of them:
//
//   <time>-<host>-<process>-<id>.receipts     a receipt a line: CRC-32 of the JSON in 8 hexadecimal digits, a space, JSON
//
// A line that is torn or damaged attests nothing: its author's files are made again. Versions before this one wrote a file
// for each receipt, <id>.receipt, which holds the JSON alone.

import ArrayFiles
import FoundationEssentials
import Glibc
import Synchronization

/// The name, without ending, of a file that this process makes: in order of time, and no other process' on any machine.
func uniqueName(host: String, process: Int32) -> String {
    let time = Date().formatted(.iso8601).filter { $0.isLetter || $0.isNumber }
    let host = host.filter { $0.isASCII && ($0.isLetter || $0.isNumber) }
    let id = String(UInt32.random(in: .min ... .max), radix: 16)
    return "\(time)-\(host.prefix(40))-\(process)-\(id)"
}

extension AuthorReceipt {
    /// The receipt as a line of a file.
    fileprivate func line() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let text = Array(try encoder.encode(self))
        return AuthorReceipt.checksum(text[...]) + [UInt8(ascii: " ")] + text + [0x0A]
    }

    /// The receipt of a line without its end; nil where the line is damaged.
    fileprivate init?(line: ArraySlice<UInt8>) {
        let text = line.dropFirst(9)
        guard line.count > 9, Array(line.prefix(8)) == AuthorReceipt.checksum(text),
            let receipt = AuthorReceipt(json: text)
        else { return nil }
        self = receipt
    }

    /// The receipt that `text` is; nil where it is none.
    fileprivate init?(json text: some Sequence<UInt8>) {
        guard let receipt = try? JSONDecoder().decode(AuthorReceipt.self, from: Data(text)),
            receipt.isPlausible
        else { return nil }
        self = receipt
    }

    private static func checksum(_ text: ArraySlice<UInt8>) -> [UInt8] {
        let crc = text.withUnsafeBytes { crc32($0) }
        return Array(hexadecimal(withUnsafeBytes(of: crc.bigEndian, Array.init)).utf8)
    }
}

/// The receipts in a folder, read as they come; from several threads.
final class ReceiptReader: Sendable {
    private struct Progress {
        /// Up to where each file has been read.
        var positions: [String: Int] = [:]
        /// What could not be made sense of, by path.
        var damage: [String] = []
    }

    private let progress = Mutex(Progress())

    /// Bytes of receipts that are read at once: far more than those of any run.
    private static let longest = 1 << 31

    /// The receipts in `folder` that no call has given yet, by file name; without those that `isPossible` refuses. Receipts
    /// never change: each is read once. What cannot be read, or goes meanwhile, attests nothing; `damage` tells of it. Throws
    /// `FileError` where the folder cannot be listed, or a link or a pipe lies in place of a file.
    func new(
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
                // What has no end yet is being written, or was when its process was killed.
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

    /// Where receipts were that are damaged, or cannot be those of the run.
    var damage: [String] { progress.withLock { $0.damage } }

    /// Passes over the first `count` bytes of the file called `name`: their receipts are known.
    func skip(_ name: String, to count: Int) { progress.withLock { $0.positions[name] = count } }

    /// Forgets what has been read.
    func reset() { progress.withLock { $0 = Progress() } }

    /// Opened each time, so that a network file system asks its server what other machines have appended.
    private static func bytes(
        of name: String, in folder: Folder, from start: Int
    ) throws(FileError) -> [UInt8]? {
        let descriptor: Int32
        do {
            guard let opened = try folder.open(name) else { return nil }
            descriptor = opened
        } catch {
            // A link or a pipe is nothing that a run has left.
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

/// The file that this process appends its receipts to.
final class ReceiptWriter: Sendable {
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

/// Fails where the file that `descriptor` is open on is not at `path` any more. Throws `StateRemovedError`.
func checkInPlace(_ descriptor: Int32, _ place: GuardedPath) throws {
    var own = stat()
    guard fstat(descriptor, &own) == 0, let there = try? place.status(),
        own.st_dev == there.st_dev, own.st_ino == there.st_ino
    else { throw StateRemovedError(path: place.path) }
}

/// Shortens a file that is being written to `end` bytes, and goes on there.
func cutOff(_ descriptor: Int32, at end: Int) {
    ftruncate(descriptor, off_t(end))
    lseek(descriptor, off_t(end), SEEK_SET)
}
