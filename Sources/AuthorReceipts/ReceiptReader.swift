// Receipts on the disk. A process appends its own to one file, which appears with the first of them:
//
//   <time>-<host>-<process>-<id>.receipts     a receipt a line: CRC-32 of the JSON in 8 hexadecimal digits, a space, JSON
//
// A line that is torn or damaged attests nothing: its author's files are made again. Versions before this one wrote a file
// for each receipt, <id>.receipt, which holds the JSON alone.

import Files
import FoundationEssentials
import Glibc
import Synchronization

/// The name, without ending, of a file that this process makes: in order of time, and no other process' on any machine.
package func uniqueName(host: String, process: Int32) -> String {
    let time = Date().formatted(.iso8601).filter { $0.isLetter || $0.isNumber }
    let host = host.filter { $0.isASCII && ($0.isLetter || $0.isNumber) }
    let id = String(UInt32.random(in: .min ... .max), radix: 16)
    return "\(time)-\(host.prefix(40))-\(process)-\(id)"
}

extension AuthorReceipt {
    /// The receipt as a line of a file.
    package func line() throws -> [UInt8] {
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
package final class ReceiptReader: Sendable {
    private struct Progress {
        /// Up to where each file has been read.
        var positions: [String: Int] = [:]
        /// What could not be made sense of, by path.
        var damage: [String] = []
    }

    private let progress = Mutex(Progress())

    /// A reader that has read nothing.
    package init() {}

    /// Bytes of receipts that are read at once: far more than those of any run.
    private static let longest = 1 << 31

    /// The receipts in `folder` that no call has given yet, by file name; without those that `isPossible` refuses. Receipts
    /// never change: each is read once. What cannot be read, or goes meanwhile, attests nothing; `damage` tells of it. Throws
    /// `FileError` where the folder cannot be listed, or a link or a pipe lies in place of a file.
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
    package var damage: [String] { progress.withLock { $0.damage } }

    /// Passes over the first `count` bytes of the file called `name`: their receipts are known.
    package func skip(_ name: String, to count: Int) {
        progress.withLock { $0.positions[name] = count }
    }

    /// Forgets what has been read.
    package func reset() { progress.withLock { $0 = Progress() } }

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
