// Appends finished batches to the journal of this process.

import Dispatch
import Files
import FoundationEssentials
import Glibc
import Synchronization

/// The journal that this process appends to.
package final class JournalWriter: @unchecked Sendable {
    static let signature = Array("SAEJRNL1".utf8)
    /// The time after which `append` synchronizes the file again.
    private static let synchronizationInterval = Duration.seconds(5)

    package let place: GuardedPath
    private let descriptor: Int32
    /// The byte offset of the next frame.
    private(set) var end: Int
    private var lastSynchronization = ContinuousClock.now
    private let synchronizing: DispatchQueue?
    private let failure = Mutex<FileError?>(nil)

    /// Creates a journal in `directory`. The names of journals sort by time. If `isSynchronizedAside` is true,
    /// `append` leaves the synchronization to another thread. Throws `FileError`.
    package init(
        directory: GuardedPath, header: JournalHeader, isSynchronizedAside: Bool = false
    ) throws {
        synchronizing = isSynchronizedAside ? DispatchQueue(label: "synchronizing") : nil
        let name = AppendedFile.newName(host: header.host, process: header.process)
        place = directory / "\(name).journal"
        let payload = Array(try JSONEncoder().encode(header))
        let head = FrameHead(
            author: .max, batch: .max, documents: 0, length: payload.count,
            crc: payload.withUnsafeBytes { crc32($0) })
        let start = JournalWriter.signature + head.encoded + payload
        descriptor = try OutputFile.makeKeepingOpen(place, begunIn: directory) {
            try $0.write(start)
        }
        end = start.count
        try directory.synchronize()
    }

    deinit { close(descriptor) }

    /// Appends a batch and returns the byte range of each section in the file. `author` is the index of the author in
    /// the plan's order. Throws `FileError`.
    @discardableResult
    package func append(
        author: Int, batch: Int, documents: Int, _ sections: [EncodedSection]
    ) throws -> [RecordSection: Range<Int>] {
        let table = SectionTable.encode(sections)
        let crc = sections.reduce(table.withUnsafeBytes { crc32($0) }) {
            crc32($0, followedBy: $1.crc, count: $1.bytes.count)
        }
        let head = FrameHead(
            author: UInt32(author), batch: UInt32(batch), documents: UInt32(documents),
            length: sections.reduce(table.count) { $0 + $1.bytes.count }, crc: crc)
        var start = end + FrameHead.size + table.count
        var frame = head.encoded + table
        frame.reserveCapacity(FrameHead.size + head.length)
        for section in sections { frame += section.bytes }
        try append(frame)
        if ContinuousClock.now - lastSynchronization > JournalWriter.synchronizationInterval {
            lastSynchronization = .now
            if let synchronizing {
                // Linux reports a failed write to the disk only once. So the error is kept, and each later
                // `synchronize` throws it.
                synchronizing.async { [self] in
                    do throws(FileError) {
                        try synchronize()
                    } catch {
                        failure.withLock { $0 = error }
                    }
                }
            } else {
                try synchronize()
            }
        }
        var places: [RecordSection: Range<Int>] = [:]
        for section in sections {
            places[section.section] = start..<start + section.bytes.count
            start += section.bytes.count
        }
        return places
    }

    /// Returns when all appended batches are on the disk. Can be called on any thread. Throws `FileError`.
    package func synchronize() throws(FileError) {
        if let error = failure.withLock({ $0 }) { throw error }
        guard synchronizeToDisk(descriptor, dataOnly: true) else {
            throw FileError("write", place.path)
        }
    }

    /// Throws `StateRemovedError` if the path no longer names this file, because other processes would not find its
    /// batches.
    package func checkInPlace() throws { try AppendedFile.checkInPlace(descriptor, place) }

    private func append(_ bytes: [UInt8]) throws {
        do {
            try bytes.withUnsafeBytes { try writeAll($0, to: descriptor, path: place.path) }
            end += bytes.count
        } catch {
            // Removes the incomplete frame, because readers would not see the frames after it.
            AppendedFile.cutOff(descriptor, at: end)
            throw error
        }
    }
}
