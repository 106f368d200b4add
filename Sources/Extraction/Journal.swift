// Finished batches wait on disk until their author's files are written, so that memory does not grow with
// the corpus.

import ArrayFiles
import Glibc

/// An append-only file of batch records. It has no name once opened, so nothing is left of it when the
/// process ends, however it ends.
final class Journal: @unchecked Sendable {
    private let path: String
    private let descriptor: Int32
    private var end = 0
    private var records: [[RecordSection: Range<Int>]] = []

    /// How many records there are.
    var recordCount: Int { records.count }

    /// Makes an empty journal in `directory`.
    init(directory: String) throws(FileError) {
        (descriptor, path) = try createUniqueFile(in: directory)
        unlink(path)
    }

    deinit { close(descriptor) }

    /// Appends a record's sections.
    func append(_ sections: [(RecordSection, [UInt8])]) throws {
        var ranges: [RecordSection: Range<Int>] = [:]
        for (section, bytes) in sections {
            try bytes.withUnsafeBytes { try writeAll($0, to: descriptor, path: path) }
            ranges[section] = end..<end + bytes.count
            end += bytes.count
        }
        records.append(ranges)
    }

    /// The bytes of one section of record `index`.
    func read(_ section: RecordSection, of index: Int) throws(FileError) -> [UInt8] {
        let range = records[index][section]!
        var bytes = [UInt8](repeating: 0, count: range.count)
        var done = 0
        while done < range.count {
            let count = bytes.withUnsafeMutableBytes {
                pread(
                    descriptor, $0.baseAddress! + done, range.count - done,
                    off_t(range.lowerBound + done))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw FileError("read", path, code: count == 0 ? EIO : errno) }
            done += count
        }
        return bytes
    }

    /// Forgets all records.
    func removeAll() throws(FileError) {
        guard ftruncate(descriptor, 0) == 0, lseek(descriptor, 0, SEEK_SET) == 0 else {
            throw FileError("truncate", path)
        }
        records.removeAll()
        end = 0
    }
}
