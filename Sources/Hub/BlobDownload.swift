// One content of the cache: downloaded to a file that nobody else writes to, continued where an earlier download broke
// off, checked, and only then given its name.
//
// Nothing here depends on locks. The lock spares two processes of downloading the same; where it does not work (some network
// file systems), or its holder makes no headway, each downloads by itself, and the last to rename wins with the same bytes.

import ArrayFiles
import Crypto
import Foundation
import Glibc
import Logging
import Synchronization

/// Where a download's bytes go: appended to a file and to a hash.
final class DownloadSink: Sendable {
    /// The body is longer than the file is said to be.
    struct TooLong: Error {}

    private struct State {
        var count = 0
        /// The next byte of the body at hand within the file.
        var position: Int?
        var hash: Hash
    }

    private enum Hash {
        case sha256(SHA256)
        case gitBlob(Insecure.SHA1)

        mutating func update(_ bytes: UnsafeRawBufferPointer) {
            switch self {
            case .sha256(var hash):
                hash.update(bufferPointer: bytes)
                self = .sha256(hash)
            case .gitBlob(var hash):
                hash.update(bufferPointer: bytes)
                self = .gitBlob(hash)
            }
        }

        var digits: String {
            func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
                bytes.map { String(format: "%02x", $0) }.joined()
            }
            return switch self {
            case .sha256(let hash): hexadecimal(hash.finalize())
            case .gitBlob(let hash): hexadecimal(hash.finalize())
            }
        }
    }

    let path: String
    private let descriptor: Int32
    private let state: Mutex<State>
    private let report: @Sendable (Int) -> Void

    /// A sink to a new file in `folder`. `report` is told of every byte. Throws `FileError`.
    init(
        for file: RepositoryFile, in folder: String, report: @escaping @Sendable (Int) -> Void
    ) throws {
        (descriptor, path) = try createUniqueFile(in: folder)
        self.report = report
        let hash: Hash
        switch file.digest {
        case .sha256: hash = .sha256(SHA256())
        case .gitBlob:
            // What git hashes is the content after this header.
            var sha1 = Insecure.SHA1()
            sha1.update(data: Array("blob \(file.size)\0".utf8))
            hash = .gitBlob(sha1)
        }
        state = Mutex(State(hash: hash))
    }

    deinit { close(descriptor) }

    /// Bytes so far.
    var count: Int { state.withLock(\.count) }

    /// The digest of all bytes so far.
    var digest: String { state.withLock { $0.hash.digits } }

    /// Appends `bytes`. Throws `FileError` or `TooLong`.
    func append(_ bytes: UnsafeRawBufferPointer, limit: Int) throws {
        try state.withLock { try write(bytes, limit, &$0) }
    }

    /// Appends what is new of `bytes`, of a body that begins at `start` of the file, asked for with its first bytes. Throws
    /// `FileError`, `TooLong` and what `start` throws.
    func append(
        _ bytes: UnsafeRawBufferPointer, limit: Int, start: () throws -> Int
    ) throws {
        try state.withLock { state in
            let position = try state.position ?? start()
            state.position = position + bytes.count
            let known = min(bytes.count, max(0, state.count - position))
            try write(UnsafeRawBufferPointer(rebasing: bytes[known...]), limit, &state)
        }
    }

    /// Another body comes.
    func beginExchange() { state.withLock { $0.position = nil } }

    private func write(
        _ bytes: UnsafeRawBufferPointer, _ limit: Int, _ state: inout State
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
        report(bytes.count)
    }

    /// Fails unless the bytes have reached the disk, and are as many as they should be. Throws `FileError`.
    func synchronize() throws {
        guard fsync(descriptor) == 0 else { throw FileError("write", path) }
        var info = stat()
        guard fstat(descriptor, &info) == 0, Int(info.st_size) == count else {
            throw FileError("write", path, code: EIO)
        }
    }
}

/// Brings one content into the cache.
struct BlobDownload: Sendable {
    let file: RepositoryFile
    let commit: String
    let cache: HubCache
    let client: HubClient
    let log: Logger
    /// Told of bytes that are there: new ones, and those of an earlier download.
    let report: @Sendable (Int) -> Void

    private var blob: String { cache.blob(file.digest.name) }
    private var folder: String { cache.partials(file.digest.name) }
    private var isThere: Bool { fileSize(blob) == file.size && fileExists(blob) }

    /// Returns when the content is in the cache and the file linked to it. Throws `HubError` and `FileError`.
    func run() async throws {
        if !isThere {
            let lock = try await waitForTurn()
            defer { lock?.release() }
            if !isThere { try await download() }
        }
        try cache.link(file.path, of: commit, to: file.digest.name)
    }

    private func download() async throws {
        try makeDirectories(String(blob[..<blob.lastIndex(of: "/")!]))
        var isFresh = false
        while true {
            let sink = try newSink()
            let adopted = isFresh ? nil : try adopt(into: sink)
            var got: String
            do {
                try await client.download(file, cache.reference, commit: commit, into: sink)
                got = sink.digest
            } catch is DownloadSink.TooLong {
                got = "more than \(file.size) bytes"
            }
            if got == file.digest.name {
                try sink.synchronize()
                if rename(sink.path, blob) == 0 {
                    try? removeTree(folder)
                    return
                }
                let error = FileError("rename", sink.path)
                guard error.code == ENOENT else { throw error }
                // Another process had the content first and has cleared away; or took ours for a leftover.
                if isThere { return }
                report(-sink.count)
                continue
            }
            report(-sink.count)
            unlink(sink.path)
            guard !isFresh else {
                throw HubError.damaged(
                    cache.reference, file: file.path, expected: file.digest.name, got: got)
            }
            // What was taken over may be what is wrong. Other processes' parts are theirs.
            if let adopted { unlink(adopted) }
            isFresh = true
            log.warning(
                "\(cache.reference)/\(file.path): what came is not what it should be (\(got)); downloading it again from the start"
            )
        }
    }

    /// A sink in the folder, which another process may be just clearing away. Throws `FileError`.
    private func newSink() throws -> DownloadSink {
        while true {
            try makeDirectories(folder)
            do {
                return try DownloadSink(for: file, in: folder, report: report)
            } catch let error as FileError where error.code == ENOENT {
                continue
            }
        }
    }

    /// Copies what the furthest of the earlier downloads has into `sink`. A copy, because its owner may still be writing:
    /// whether another machine's process lives cannot be known. The path of what was copied.
    private func adopt(into sink: DownloadSink) throws -> String? {
        guard
            let (furthest, size) = cache.furthestPartial(
                file.digest.name, except: sink.path, limit: file.size)
        else { return nil }
        let descriptor = open(furthest, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer { buffer.deallocate() }
        log.debug("\(cache.reference)/\(file.path): continuing a download of \(size) bytes")
        while sink.count < file.size {
            let count = read(
                descriptor, buffer.baseAddress, min(buffer.count, file.size - sink.count))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            do {
                try sink.append(
                    UnsafeRawBufferPointer(rebasing: buffer[..<count]), limit: file.size)
            } catch let error as FileError where [ENOSPC, EDQUOT].contains(error.code) {
                // No room for both: what is copied is enough to go on from, and to make room for the rest.
                unlink(furthest)
                break
            }
        }
        return furthest
    }

    // MARK: The lock

    /// Seconds for which the holder of the lock may make no headway before it is passed by.
    private static let patience = 30.0

    private struct Lock {
        let descriptor: Int32

        func release() { close(descriptor) }
    }

    /// Waits while another process downloads the same and gets on with it. The lock where it was to be had; nil where one
    /// goes on without. Throws `CancellationError`.
    private func waitForTurn() async throws -> Lock? {
        let path = cache.lock(file.digest.name)
        guard (try? makeDirectories(String(path[..<path.lastIndex(of: "/")!]))) != nil else {
            return nil
        }
        // Group-writable, as huggingface_hub makes it: a cache may be several users'.
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o664)
        guard descriptor >= 0 else { return nil }
        var seen = -1
        var idle = 0.0
        var hasSaid = false
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR else { break }
            if isThere { break }
            if !hasSaid {
                log.info(
                    "\(cache.reference)/\(file.path): another process is downloading it; waiting")
                hasSaid = true
            }
            let now = headway()
            idle = now == seen ? idle + 0.2 : 0
            seen = now
            if idle >= BlobDownload.patience {
                log.warning(
                    "\(cache.reference)/\(file.path): whoever holds \(path) has done nothing for \(Int(idle)) s; downloading it here too"
                )
                break
            }
            try await Task.sleep(for: .seconds(0.2))
        }
        return Lock(descriptor: descriptor)
    }

    /// Bytes of all unfinished downloads of the content, ours and huggingface_hub's.
    private func headway() -> Int {
        let blobs = String(blob[..<blob.lastIndex(of: "/")!])
        let theirs = ((try? directoryContents(blobs)) ?? []).filter {
            $0.hasPrefix(file.digest.name + ".")
        }
        let ours = (try? directoryContents(folder)) ?? []
        return theirs.reduce(0) { $0 + fileSize("\(blobs)/\($1)") }
            + ours.reduce(0) { $0 + fileSize("\(folder)/\($1)") }
    }
}
