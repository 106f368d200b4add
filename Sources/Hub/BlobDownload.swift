// One content of the cache: downloaded to a file that nobody else writes to, continued where an earlier download broke
// off, checked, and only then given its name.
//
// Nothing here depends on locks. The lock spares two processes of downloading the same; where it does not work (some network
// file systems), or its holder makes no headway, each downloads by itself, and the last to rename wins with the same bytes.

import Files
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// Where bytes come from.
public enum DownloadedBytes: Sendable {
    /// The network.
    case received
    /// What an earlier download has left.
    case found
}

/// Where a download's bytes go: appended to a file and to a hash.
final class DownloadSink: Sendable {
    /// The body is longer than the file is said to be.
    struct TooLong: Error {}

    private struct State {
        var count = 0
        /// Which exchange's body is at hand, and its next byte within the file.
        var exchange = 0
        var position: Int?
        var hash: ContentHash
    }

    /// The folder that the file is in, and its name there.
    let folder: Folder
    let name: String
    let descriptor: Int32
    private let state: Mutex<State>
    private let report: @Sendable (Int, DownloadedBytes) -> Void

    /// A sink to a new file in `folder`. `report` is told of every byte. Throws `FileError`.
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

    /// Removes the file.
    func remove() { try? folder.remove(name) }

    /// Takes the file from all but this user until it is known to be what it should be. Says whether that could be done.
    func hide() -> Bool {
        var info = stat()
        return fchmod(descriptor, 0o600) == 0 && fstat(descriptor, &info) == 0
            && info.st_mode & 0o077 == 0
    }

    /// Bytes so far.
    var count: Int { state.withLock(\.count) }

    /// The digest of all bytes so far.
    var digest: String { state.withLock { $0.hash.digits } }

    /// The digest under which the bytes so far are to lie in the cache; nil where they are not the file's.
    var proof: RepositoryFile.Digest? { state.withLock { $0.hash.proof } }

    /// Appends `bytes` of an earlier download. Throws `FileError` or `TooLong`.
    func append(_ bytes: UnsafeRawBufferPointer, limit: Int) throws {
        try state.withLock { try write(bytes, limit, .found, &$0) }
    }

    /// Appends what is new of `bytes`, of a body that begins at `start` of the file, asked for with its first bytes. Of an
    /// exchange that is not the last nothing is taken. Throws `FileError`, `TooLong` and what `start` throws.
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

    /// Another exchange begins: its number.
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
        // At the place that counts: what a failed attempt has written of its bytes is written over.
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

    /// Fails unless the bytes, which are what they should be, have reached the disk, and are as many; then the file gets its lasting
    /// permissions. What the system said of it before. Throws `FileError`.
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

/// Brings one content into the cache.
struct BlobDownload: Sendable {
    let file: RepositoryFile
    /// The paths of all files with the content.
    let paths: [String]
    let commit: String
    let cache: HubCache
    /// Where it is looked up what of the cache is whole.
    let contents: CheckedContents
    let client: HubClient
    let log: Logger
    /// Told of bytes that are there; of less than none where they were of no use.
    let report: @Sendable (Int, DownloadedBytes) -> Void

    private var blob: String { cache.blob(file.digest.name) }
    private var isThere: Bool {
        contents.isWhole(blob, file)
            // Of a content that the listing has no name of its own for, nobody knows its place beforehand.
            || paths.allSatisfy { contents.isWhole(cache.file($0, of: commit), file) }
    }

    /// Returns when the content is in the cache and the files are linked to it. Throws `HubError` and `FileError`.
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

    /// Git keeps no larger files by themselves: one that is listed without SHA-256 is a mirror's fault.
    private static let largestPlainFile = 10 << 20

    /// Most times that one begins anew because somebody has cleared away what was there.
    private static let attempts = 3

    /// The digest under which the content then lies in the cache.
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
                // Another process was faster.
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
                    // Where it has been taken for a leftover, or the cache has been cleared, it is begun again.
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
            // What was taken over may be what is wrong. Other processes' parts are theirs.
            if let adopted { try? sink.folder.remove(adopted) }
            isFresh = true
            log.warning(
                "\(cache.reference)/\(file.path): what came is not what it should be (\(got)); downloading it again from the start"
            )
        }
    }

    /// A sink in the folder, which another process may be just clearing away. Throws `FileError`.
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

    /// Removes all parts of the content, which is there.
    private func removeParts() {
        try? cache.existing(.own())?.removeTree(file.digest.name)
    }

    /// Copies what the furthest of the earlier downloads has into `sink`, and removes those that are of no more use. A copy,
    /// because its owner may still be writing: whether another machine's process lives is only known where the lock is, or
    /// where it has not written for long. The name of what was copied.
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
        // Somebody may have linked a file there that is this user's alone. One of this user's own that others may not read is taken
        // over so that they cannot read it here either.
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
                // No room for both: what is copied is enough to go on from, and to make room for the rest.
                break
            }
        }
        if isAbandoned(furthest) { try? sink.folder.remove(furthest.name) }
        return furthest.name
    }

    /// Whether the open file is this user's and has no other name.
    private func isOnlyOwn(_ descriptor: Int32) -> Bool {
        var info = stat()
        return fstat(descriptor, &info) == 0 && info.st_uid == geteuid() && info.st_nlink == 1
    }

    // MARK: The lock

    /// Seconds for which the holder of the lock may make no headway before it is passed by.
    private static let patience = 30.0
    /// Seconds after which a part that nobody has written to is nobody's.
    private static let silence = 120

    private struct Lock {
        let descriptor: Int32
        let isHeld: Bool

        func release() { close(descriptor) }
    }

    /// Waits while another process downloads the same and gets on with it. The lock where it was to be had; nil or not held
    /// where one goes on without. Throws `CancellationError`.
    private func waitForTurn() async throws -> Lock? {
        let name = "\(file.digest.name).lock"
        // Group-writable, as huggingface_hub makes it: a cache may be several users'.
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
                        "\(cache.reference)/\(file.path): whoever holds \(path) has done nothing for \(Int(idle)) s; downloading it here too"
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
            // Many may be waiting, on a file system that is somebody else's too.
            pause = min(2, pause * 1.5)
            try await Task.sleep(for: .seconds(pause))
        }
        return Lock(descriptor: descriptor, isHeld: true)
    }

    /// Bytes of all unfinished downloads of the content, ours and huggingface_hub's.
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
