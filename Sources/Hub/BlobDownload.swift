// Downloads one content into the cache. The bytes go to a file that only this process writes, and an earlier partial download is
// continued. The file gets its final name only after its hash was checked.
//
// Correctness does not depend on locks. The lock only saves two processes from downloading the same content. If locks do not work
// (some network file systems), or the lock's holder makes no progress, each process downloads the content, and the last rename
// wins with the same bytes.

import Files
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// The origin of bytes that a download reports.
public enum DownloadedBytes: Sendable {
    /// Received from the network.
    case received
    /// Copied from an earlier partial download.
    case found
}

/// The destination of a download: appends bytes to a new file and updates their hash.
final class DownloadSink: Sendable {
    /// The body is longer than the file's size in the listing.
    struct TooLong: Error {}

    private struct State {
        var count = 0
        /// The number of the current exchange, and the offset in the file of the next byte of its body. The position is nil until
        /// the first bytes of the body come.
        var exchange = 0
        var position: Int?
        var hash: ContentHash
    }

    /// The folder of the file, and the file's name in it.
    let folder: Folder
    let name: String
    let descriptor: Int32
    private let state: Mutex<State>
    private let report: @Sendable (Int, DownloadedBytes) -> Void

    /// Creates a new file in `folder`. `report` is called with the number of bytes of each piece that is appended. Throws
    /// `FileError`.
    init(
        for file: RepositoryFile, in folder: Folder,
        report: @escaping @Sendable (Int, DownloadedBytes) -> Void
    ) throws {
        self.folder = folder
        (descriptor, name) = try folder.createUnique(mode: HubCache.unfinishedMode)
        self.report = report
        state = Mutex(State(hash: ContentHash(of: file)))
    }

    deinit { close(descriptor) }

    private var path: String { folder.path(of: name) }

    /// Removes the file. Ignores errors.
    func remove() { try? folder.remove(name) }

    /// Removes all permissions of the group and of others, until the content is checked. Returns false if the file still has such
    /// permissions.
    func hide() -> Bool {
        var info = stat()
        return fchmod(descriptor, 0o600) == 0 && fstat(descriptor, &info) == 0
            && info.st_mode & 0o077 == 0
    }

    /// The number of bytes so far.
    var count: Int { state.withLock(\.count) }

    /// The digest of all bytes so far, in hexadecimal digits.
    var digest: String { state.withLock { $0.hash.digits } }

    /// The digest under which the bytes so far are to be stored in the cache; nil if they are not the content of the file.
    var proof: RepositoryFile.Digest? { state.withLock { $0.hash.proof } }

    /// Appends `bytes`, which come from an earlier partial download. Throws `FileError`, and `TooLong` if the file would have
    /// more than `limit` bytes.
    func append(_ bytes: UnsafeRawBufferPointer, limit: Int) throws {
        try state.withLock { try write(bytes, limit, .found, &$0) }
    }

    /// Appends `bytes`, the next piece of the body of `exchange`, without the bytes that the file has already. `start` is called
    /// at the first piece of an exchange, and returns the offset of the body in the file. Does nothing if `exchange` is not the
    /// current one. Throws `FileError`, `TooLong` and what `start` throws.
    func append(
        _ bytes: UnsafeRawBufferPointer, of exchange: Int, limit: Int, start: () throws -> Int
    ) throws {
        try state.withLock { state in
            guard exchange == state.exchange else { return }
            let position = try state.position ?? start()
            state.position = position + bytes.count
            let known = min(bytes.count, max(0, state.count - position))
            try write(
                UnsafeRawBufferPointer(rebasing: bytes[known...]), limit, .received, &state)
        }
    }

    /// Starts the next exchange. Returns its number.
    func beginExchange() -> Int {
        state.withLock {
            $0.position = nil
            $0.exchange += 1
            return $0.exchange
        }
    }

    private func write(
        _ bytes: UnsafeRawBufferPointer, _ limit: Int, _ kind: DownloadedBytes,
        _ state: inout State
    ) throws {
        guard state.count + bytes.count <= limit else { throw TooLong() }
        // The offset follows from `state.count`, which grows only after all bytes are written: a retry overwrites what a failed
        // write has left.
        var rest = bytes
        while !rest.isEmpty {
            let offset = off_t(state.count + bytes.count - rest.count)
            let written = pwrite(descriptor, rest.baseAddress, rest.count, offset)
            if written < 0, errno == EINTR { continue }
            guard written > 0 else { throw FileError("write", path) }
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(written))
        }
        state.hash.update(bytes)
        state.count += bytes.count
        report(bytes.count, kind)
    }

    /// Writes the file, whose content was checked before, to the disk and gives it its final permissions. Returns the file's
    /// status from before that change. Throws `FileError`, also if the file does not have `count` bytes.
    func finish() throws -> stat {
        guard synchronizeToDisk(descriptor) else { throw FileError("write", path) }
        var info = stat()
        guard fstat(descriptor, &info) == 0, Int(info.st_size) == count else {
            throw FileError("write", path, code: EIO)
        }
        if let mode = folder.ordinaryMode { fchmod(descriptor, mode) }
        return info
    }
}

/// The download of one content into the cache.
struct BlobDownload: Sendable {
    let file: RepositoryFile
    /// The paths of all files of the repository that have this content.
    let paths: [String]
    let commit: String
    let cache: HubCache
    /// Tells which contents of the cache are whole.
    let contents: CheckedContents
    let client: HubClient
    let log: Logger
    /// Called with the number of bytes of each piece that is received or copied. Called with a negative number if bytes that were
    /// reported before are discarded.
    let report: @Sendable (Int, DownloadedBytes) -> Void

    private var blob: String { cache.blob(file.digest.name) }
    private var isThere: Bool {
        contents.isWhole(blob, file)
            // A mirror may list a content by the git id of its LFS pointer. The name of the content's blob is then not known in
            // advance, so the files that link to the blob are checked.
            || paths.allSatisfy { contents.isWhole(cache.file($0, of: commit), file) }
    }

    /// Downloads the content if it is not in the cache, and links all files to it. Throws `HubError` and `FileError`.
    func run() async throws {
        var digest = file.digest
        if !isThere {
            let lock = try await waitForTurn()
            defer { lock?.release() }
            if !isThere { digest = try await download(isLocked: lock?.isHeld == true) }
        }
        let stored = RepositoryFile(path: file.path, size: file.size, digest: digest)
        for path in paths where !contents.isWhole(cache.file(path, of: commit), file) {
            try cache.link(path, of: commit, to: stored)
        }
    }

    /// Most bytes of a file that is stored in git itself. Larger files are in LFS: if a larger file is listed without SHA-256,
    /// the mirror's list is at fault.
    private static let largestPlainFile = 10 << 20

    /// Most attempts, if the finished file disappears before it gets its name.
    private static let attempts = 3

    /// Downloads the content. Returns the digest under which it is stored in the cache.
    private func download(isLocked: Bool) async throws -> RepositoryFile.Digest {
        var isFresh = false
        var attempt = 0
        while true {
            let sink = try newSink()
            let adopted = isFresh ? nil : try adopt(into: sink, isLocked: isLocked)
            var got: String
            do {
                try await client.download(
                    file, cache.reference, commit: commit, into: sink, while: { !isThere })
                got = sink.digest
            } catch is DownloadSink.TooLong {
                got = "more than \(file.size) bytes"
            }
            if isThere {
                // Another process has finished the content first.
                sink.remove()
                removeParts()
                return file.digest
            }
            if sink.count == file.size, let digest = sink.proof {
                let finished = try sink.finish()
                do throws(FileError) {
                    try cache.move(
                        sink.name, open: sink.descriptor, from: sink.folder, to: digest.name,
                        in: cache.make(.blobs))
                    contents.trust(sink.descriptor, as: finished, file)
                    removeParts()
                    return digest
                } catch {
                    // ENOENT: another process has removed the file as a leftover, or the cache was cleared. Start again.
                    attempt += 1
                    guard error.code == ENOENT, attempt < BlobDownload.attempts else { throw error }
                }
                report(-sink.count, .found)
                sink.remove()
                continue
            }
            report(-sink.count, .found)
            sink.remove()
            let settings = client.settings
            if case .gitBlob = file.digest, file.size > BlobDownload.largestPlainFile,
                adopted == nil
            {
                throw HubError.noDigest(
                    cache.reference, file: file.path, expected: file.digest.name,
                    endpoint: settings.namedEndpoint)
            }
            guard !isFresh else {
                throw HubError.damaged(
                    cache.reference, file: file.path, expected: file.digest.name, got: got,
                    mirror: settings.isEndpointGiven ? settings.endpoint : nil)
            }
            // The wrong bytes may be those that were taken over, so the partial download that had them is removed. Other partial
            // downloads belong to other processes and stay.
            if let adopted { try? sink.folder.remove(adopted) }
            isFresh = true
            log.warning(
                "\(cache.reference)/\(file.path): the downloaded content has a wrong digest or size (\(got)); downloading it again from the start"
            )
        }
    }

    /// Returns a sink in the content's folder. Tries again if another process removes the folder at the same time. Throws
    /// `FileError`.
    private func newSink() throws -> DownloadSink {
        var attempt = 0
        while true {
            do {
                let folder = try cache.make(.own([file.digest.name]))
                return try DownloadSink(for: file, in: folder, report: report)
            } catch let error as FileError where [ENOENT, ENOTDIR].contains(error.code) {
                attempt += 1
                if attempt == 100 { throw error }
            }
        }
    }

    /// Removes all partial downloads of the content, which is in the cache now.
    private func removeParts() {
        try? cache.existing(.own())?.removeTree(file.digest.name)
    }

    /// Copies the largest earlier partial download into `sink`, and removes the abandoned ones. Copies and does not rename,
    /// because the owner may still be writing: a process on another machine is known to have ended only if this process holds the
    /// lock, or if the file has not been written to for long. Returns the name of the file that was copied; nil if none can be
    /// used.
    private func adopt(into sink: DownloadSink, isLocked: Bool) throws -> String? {
        let others = cache.earlierPartials(file.digest.name).filter { $0.name != sink.name }
        func isAbandoned(_ part: HubCache.Partial) -> Bool {
            isLocked || part.age > BlobDownload.silence
        }
        let furthest = others.filter { $0.size > 0 && $0.size <= file.size }
            .max { $0.size < $1.size }
        for part in others where part.name != furthest?.name && isAbandoned(part) {
            try? sink.folder.remove(part.name)
        }
        guard let furthest, let descriptor = try? sink.folder.open(furthest.name) else {
            return nil
        }
        defer { close(descriptor) }
        // The partial file may be a hard link, made by somebody else, to a file that only this user may read. The content of that
        // file must not become readable through the copy. If the partial file is surely this user's own (owner, one link), it is
        // copied even if others may not read it, and the copy is made readable by this user only.
        guard
            isReadableAnyway(descriptor, byReadersOf: sink.descriptor)
                || isOnlyOwn(descriptor) && sink.hide()
        else { return nil }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer { buffer.deallocate() }
        log.debug(
            "\(cache.reference)/\(file.path): continuing a download of \(furthest.size) bytes")
        while sink.count < file.size {
            let count = read(
                descriptor, buffer.baseAddress, min(buffer.count, file.size - sink.count))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            do {
                try sink.append(
                    UnsafeRawBufferPointer(rebasing: buffer[..<count]), limit: file.size)
            } catch let error as FileError
                where [ENOSPC, EDQUOT].contains(error.code) && isAbandoned(furthest)
            {
                // There is no room for both files. The bytes copied so far are enough to continue from, and removing the original
                // makes room for the rest.
                break
            }
        }
        if isAbandoned(furthest) { try? sink.folder.remove(furthest.name) }
        return furthest.name
    }

    /// Whether the open file belongs to this user and has only one name.
    private func isOnlyOwn(_ descriptor: Int32) -> Bool {
        var info = stat()
        return fstat(descriptor, &info) == 0 && info.st_uid == geteuid() && info.st_nlink == 1
    }

    // MARK: The lock

    /// Seconds without progress of the lock's holder after which this process no longer waits for the lock.
    private static let patience = 30.0
    /// Seconds without a write after which a partial download counts as abandoned.
    private static let silence = 120

    private struct Lock {
        let descriptor: Int32
        let isHeld: Bool

        func release() { close(descriptor) }
    }

    /// Waits while another process downloads the same content and makes progress. Returns the lock. Nil if the lock file cannot
    /// be opened; a lock that is not held if locks do not work, the holder makes no progress or the content has appeared. Throws
    /// `CancellationError`.
    private func waitForTurn() async throws -> Lock? {
        let name = "\(file.digest.name).lock"
        // Group-writable, as huggingface_hub makes it: several users may share a cache.
        guard let folder = try? cache.make(.locks),
            let descriptor = try? folder.open(name, O_RDWR | O_CREAT, mode: 0o664)
        else { return nil }
        let path = folder.path(of: name)
        var seen = -1
        var idle = 0.0
        var pause = 0.1
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            if errno == EINTR { continue }
            let isTaken = errno == EWOULDBLOCK
            guard isTaken, !isThere, idle < BlobDownload.patience else {
                if isTaken, !isThere {
                    log.warning(
                        "\(cache.reference)/\(file.path): the process that holds the lock \(path) has made no progress for \(Int(idle)) s; downloading the file in this process too"
                    )
                }
                return Lock(descriptor: descriptor, isHeld: false)
            }
            if seen < 0 {
                log.info(
                    "\(cache.reference)/\(file.path): another process is downloading it; waiting")
            }
            let now = headway()
            idle = now == seen ? idle + pause : 0
            seen = now
            // Many processes may wait, on a file system that others use too.
            pause = min(2, pause * 1.5)
            try await Task.sleep(for: .seconds(pause))
        }
        return Lock(descriptor: descriptor, isHeld: true)
    }

    /// The sum of the bytes of all partial downloads of the content, ours and huggingface_hub's. The sum grows if somebody makes
    /// progress.
    private func headway() -> Int {
        let blobs = parentFolder(of: blob)
        let theirs = ((try? directoryContents(blobs)) ?? []).filter {
            $0.hasPrefix(file.digest.name + ".")
        }
        return
            (theirs.map { fileSize("\(blobs)/\($0)") }
            + cache.earlierPartials(file.digest.name).map(\.size)).clampedSum
    }
}
