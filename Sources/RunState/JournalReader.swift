// Reads one journal, of this process or of another process.

import Files
import FoundationEssentials
import Glibc

/// Reads a journal, even while its process appends to it.
final class JournalReader {
    /// A batch, and the byte ranges of its sections in the file.
    struct Batch {
        var author: Int
        var batch: Int
        /// The number of rows of the features. It is the number of tokens of all documents.
        var rows: Int
        var sections: [RecordSection: Range<Int>]
    }

    /// The largest header that is read, in bytes. A header has an entry for each file of an author.
    private static let longestHeader = 1 << 26
    /// The largest batch that is read, in bytes: the size of the machine's memory. A larger batch is left out, even
    /// if a machine with more memory has written it.
    private static let longestBatch = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))

    let place: GuardedPath
    /// The journal's header. Nil if the header is damaged or not written yet.
    private(set) var header: JournalHeader?
    private var descriptor: Int32
    private var position = 0
    /// Messages about the damage found so far.
    private(set) var damage: [String] = []

    /// Opens the journal at `place`. Nil if no file exists at `place`. Throws `FileError`.
    init?(_ place: GuardedPath) throws(FileError) {
        self.place = place
        guard let opened = try place.open() else { return nil }
        descriptor = opened
        try readHeader()
    }

    deinit { close(descriptor) }

    /// The path of the journal, for messages.
    var path: String { place.path }

    /// Opens the file again. Only then does a network file system show what other machines have appended. If the file
    /// was removed, keeps the old file open. Throws `FileError`.
    func reopen() throws(FileError) {
        guard let new = try place.open() else { return }
        close(descriptor)
        descriptor = new
    }

    private func readHeader() throws(FileError) {
        guard header == nil, position == 0 else { return }
        let start = JournalWriter.signature.count
        guard let signature = try read(0..<start), signature == JournalWriter.signature,
            let bytes = try read(start..<start + FrameHead.size), let head = FrameHead(bytes),
            head.length <= JournalReader.longestHeader,
            let payload = try read(start + FrameHead.size, count: head.length),
            payload.withUnsafeBytes({ crc32($0) }) == head.crc
        else { return }
        header = try? JSONDecoder().decode(JournalHeader.self, from: Data(payload))
        position = start + FrameHead.size + head.length
    }

    /// Returns the batches that were appended since the last call, of the authors that `isWanted` accepts. Leaves out
    /// batches that are damaged or exceed `limits`, and reports them in `damage`. Throws `FileError`.
    func newBatches(
        _ limits: RecordLimits, _ isWanted: (_ author: Int) -> Bool
    ) throws(FileError) -> [Batch] {
        try readHeader()
        guard header != nil else {
            if try isLongEnough(1), damage.isEmpty { damage.append("its header cannot be read") }
            return []
        }
        var batches: [Batch] = []
        while let bytes = try read(position..<position + FrameHead.size) {
            guard let head = FrameHead(bytes) else {
                // The head has the length of its frame. Without a valid head, the start of the next frame is unknown.
                let message = "unreadable from byte \(position) on"
                if damage.last != message { damage.append(message) }
                break
            }
            let start = position + FrameHead.size
            let isTooLong = head.length > JournalReader.longestBatch
            guard isWanted(Int(head.author)), !isTooLong else {
                guard head.length <= Int.max - start, try isLongEnough(start + head.length) else {
                    break
                }
                if isTooLong, isWanted(Int(head.author)) {
                    damage.append(
                        "batch \(head.batch) of author \(head.author) has \(head.length) bytes, more than this machine's memory"
                    )
                }
                position = start + head.length
                continue
            }
            // If the payload is incomplete, its process is writing it, or was killed while it wrote it.
            guard let payload = try read(start, count: head.length) else { break }
            if payload.withUnsafeBytes({ crc32($0) }) == head.crc,
                let (sections, rows) = SectionTable.decode(
                    payload, at: start, documents: head.documents, limits)
            {
                batches.append(
                    Batch(
                        author: Int(head.author), batch: Int(head.batch), rows: rows,
                        sections: sections))
            } else {
                damage.append("batch \(head.batch) of author \(head.author) is damaged")
            }
            position = start + head.length
        }
        return batches
    }

    /// Returns the size in bytes of the complete frames of `authors` that `newBatches` has not read yet. Reads only
    /// the heads of frames. Throws `FileError`.
    func size(ofAuthors authors: Set<Int>) throws(FileError) -> Int {
        guard header != nil else { return 0 }
        var (start, total) = (position, 0)
        while let bytes = try read(start..<start + FrameHead.size), let head = FrameHead(bytes),
            head.length <= Int.max - start - FrameHead.size,
            try isLongEnough(start + FrameHead.size + head.length)
        {
            let size = FrameHead.size + head.length
            if authors.contains(Int(head.author)) { total += size }
            start += size
        }
        return total
    }

    /// Marks all bytes before the byte offset `end` as read.
    func skip(to end: Int) { position = max(position, end) }

    private func isLongEnough(_ size: Int) throws(FileError) -> Bool {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw FileError("read", path) }
        return info.st_size >= size
    }

    private func read(_ start: Int, count: Int) throws(FileError) -> [UInt8]? {
        guard count <= Int.max - start, try isLongEnough(start + count) else { return nil }
        return try read(start..<start + count)
    }

    /// Returns the bytes in `range`. Nil if the file ends before the end of `range`. Throws `FileError`.
    func read(_ range: Range<Int>) throws(FileError) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: range.count)
        var done = 0
        while done < range.count {
            let count = bytes.withUnsafeMutableBytes {
                pread(
                    descriptor, $0.baseAddress! + done, range.count - done,
                    off_t(range.lowerBound + done))
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileError("read", path) }
            if count == 0 { return nil }
            done += count
        }
        return bytes
    }
}
