// Downloads one content into the cache:
// 1. Creates a new file that only this process writes.
// 2. Copies the largest earlier partial download of the content into the new file.
// 3. Requests the remaining bytes from the Hub.
// 4. Checks the hash and renames the file to its digest.
//
// A lock keeps two processes from downloading the same content at the same time. If locks do not work, or if the
// lock's holder makes no progress, both processes download the content. Both get the same bytes, so either file may
// become the blob.

import Files
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// The origin of the bytes that a download reports.
package enum DownloadedBytes: Sendable {
    /// Received from the network.
    case received
    /// Copied from an earlier partial download of the same content.
    case found
}

/// The destination of a download. Appends bytes to a new file and updates their hash.
final class DownloadSink: Sendable {
    /// Thrown if the bytes are more than the file's size in the Hub's listing.
    struct TooLong: Error {}

    private struct State {
        var count = 0
        /// The number of the current exchange.
        var exchange = 0
        /// The offset in the new file of the next byte of the response body. Nil until the first byte arrives.
        var position: Int?
        var hash: ContentHash
    }

    /// The folder that contains the new file.
    let folder: Folder
    /// The name of the new file in `folder`.
    let name: String
    let descriptor: Int32
    private let state: Mutex<State>
    private let report: @Sendable (Int, DownloadedBytes) -> Void

    /// Creates an empty file in `folder` for the content of `file`. `report` gets the number of bytes of each append.
    /// Throws `FileError`.
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

    /// Removes the new file. Ignores errors.
    func remove() { try? folder.remove(name) }

    /// Makes the new file accessible to this user only, until `finish` sets the final permissions. Returns false if
    /// this fails.
    func hide() -> Bool {
        var info = stat()
        return fchmod(descriptor, 0o600) == 0 && fstat(descriptor, &info) == 0
            && info.st_mode & 0o077 == 0
    }

    /// The number of bytes that the new file has so far.
    var count: Int { state.withLock(\.count) }

    /// The digest of all bytes so far, in hexadecimal digits.
    var digest: String { state.withLock { $0.hash.digits } }

    /// The digest that names the content in the cache; nil if the bytes so far are not the content of the file.
    var proof: RepositoryFile.Digest? { state.withLock { $0.hash.proof } }

    /// Appends `bytes` of an earlier partial download. Throws `FileError`, or `TooLong` if the new file would exceed
    /// `limit` bytes.
    func append(_ bytes: UnsafeRawBufferPointer, limit: Int) throws {
        try state.withLock { try write(bytes, limit, .found, &$0) }
    }

    /// Appends `bytes`, the next piece of the response body of `exchange`. At the first piece of an exchange, calls
    /// `start`, which returns the offset in the new file at which the body begins. Skips the bytes that the new file
    /// already has. Does nothing if a later exchange has begun. Throws `FileError`, `TooLong` and the errors of
    /// `start`.
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

    /// Starts the next exchange and returns its number.
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
        // `state.count` grows only after all of `bytes` are written. So after a failed write, the next attempt starts
        // at the same offset.
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

    /// Writes the file to the disk and sets its final permissions. Call this function only after the hash was
    /// checked. Returns the file's status after the last write. Throws `FileError`, also if the file's size is not
    /// `count`.
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
    /// The paths of all files in the repository that have this content.
    let paths: [String]
    let commit: String
    let cache: HubCache
    /// Tells which contents of the cache are complete and correct.
    let contents: CheckedContents
    let client: HubClient
    let log: Logger
    /// Called with the number of bytes of each received or copied piece. A negative number takes back bytes that were
    /// reported and then discarded.
    let report: @Sendable (Int, DownloadedBytes) -> Void

    private var blob: String { cache.blob(file.digest.name) }
    private var isThere: Bool {
        contents.isWhole(blob, file)
            // A mirror may list the git id of a content's LFS pointer in place of its SHA-256. Then the name of the
            // blob is unknown before the download. So this check opens the snapshot's files, which link to the blob.
            || paths.allSatisfy { contents.isWhole(cache.file($0, of: commit), file) }
    }

    /// Downloads the content unless the cache has it. Links every file in `paths` to it. Throws `HubError` and
    /// `FileError`.
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

    /// The maximum size in bytes of a file that the Hub stores in git itself. The Hub stores larger files in Git LFS
    /// and lists their SHA-256. So a listing of a larger file without SHA-256 is a mirror's mistake.
    private static let largestPlainFile = 10 << 20

    /// The maximum number of attempts if the finished file disappears before it is renamed.
    private static let attempts = 3

    /// Downloads the content. Returns the digest that names the content in the cache.
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
                // Another process has already put the content into the cache.
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
                    // If the file has disappeared (ENOENT), starts again with a new file. Another process may have
                    // removed it as abandoned, or a user may have cleared the cache.
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
            // The wrong bytes may come from `adopted`, the partial download that was copied. Other partial downloads
            // stay, because other processes may write to them.
            if let adopted { try? sink.folder.remove(adopted) }
            isFresh = true
            log.warning(
                "\(cache.reference)/\(file.path): the downloaded content has a wrong digest or size (\(got)); downloading it again from the start"
            )
        }
    }

    /// Creates a new file in the folder for this content's partial downloads. Tries again if another process has
    /// removed the folder. Throws `FileError`.
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

    /// Removes all partial downloads of the content. Called after the content was stored in the cache.
    private func removeParts() {
        try? cache.existing(.own())?.removeTree(file.digest.name)
    }

    /// Copies the largest earlier partial download into `sink`, and removes abandoned partial downloads. Returns the
    /// name of the copied file; nil if no file was copied.
    ///
    /// Copies the file instead of renaming it, because another process may still write to it. A partial download is
    /// abandoned if this process holds the lock, or if nobody has written to the file for more than `silence`
    /// seconds.
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
        // The partial download may be another user's hard link to a private file of this user. A copy that others can
        // read would publish the private file. So the partial download is copied in two cases only:
        // 1. Every user who may read the copy may also read the original.
        // 2. This user owns the original, and it has no other hard link. Then only this user may read the copy.
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
                // If the disk is full, the removal of the abandoned original makes space. The download continues
                // after the copied bytes.
                break
            }
        }
        if isAbandoned(furthest) { try? sink.folder.remove(furthest.name) }
        return furthest.name
    }

    /// Whether this user owns the open file and the file has only one hard link.
    private func isOnlyOwn(_ descriptor: Int32) -> Bool {
        var info = stat()
        return fstat(descriptor, &info) == 0 && info.st_uid == geteuid() && info.st_nlink == 1
    }

    // MARK: The lock

    /// If the lock's holder makes no progress for this number of seconds, this process stops waiting for the lock.
    private static let patience = 30.0
    /// A partial download counts as abandoned after more than this number of seconds without a write.
    private static let silence = 120

    private struct Lock {
        let descriptor: Int32
        let isHeld: Bool

        func release() { close(descriptor) }
    }

    /// Waits for the lock of this content while the holder makes progress. Returns nil if the lock file cannot be
    /// opened. Returns a lock with `isHeld == false` if locks do not work, if the holder makes no progress, or if the
    /// content has appeared in the cache. Throws `CancellationError`.
    private func waitForTurn() async throws -> Lock? {
        let name = "\(file.digest.name).lock"
        // The group may write to the lock file, as in huggingface_hub, because several users may share a cache.
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
            // Waits longer each time, because many processes may wait on a shared file system.
            pause = min(2, pause * 1.5)
            try await Task.sleep(for: .seconds(pause))
        }
        return Lock(descriptor: descriptor, isHeld: true)
    }

    /// Returns the total size in bytes of the content's partial downloads, by this program and by huggingface_hub.
    /// The total grows while a process makes progress.
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
