// Reads a file as a stream of bytes and decompresses gzip and zstd. The first bytes of the file show its compression.

import CZstd
import Files
import Glibc

/// Reads a file in pieces, from start to end, and decompresses the bytes.
final class ByteSource {
    private let path: String
    private let descriptor: Int32
    private let decoder: any Decoder
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
    private var pending: Range<Int>
    private var isAtEnd = false
    /// The compression of the file; nil if the file is not compressed with gzip or zstd.
    let compression: FileKind?

    /// Opens the file at `path`. Throws `FileError` if the file cannot be opened or read, or if `path` is a folder.
    init(path: String, window: CompressionWindow = .any) throws {
        self.path = path
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError("open", path) }
        pending = 0..<0
        let kind: FileKind?
        do {
            // A read from a pipe may return fewer bytes than the 4 bytes of a magic number.
            while pending.count < 4 {
                let count = try ByteSource.read(
                    descriptor, UnsafeMutableRawBufferPointer(rebasing: buffer[pending.count...]),
                    path)
                if count == 0 { break }
                pending = 0..<pending.count + count
            }
            kind = FileKind(UnsafeRawBufferPointer(rebasing: buffer[pending]))
        } catch {
            close(descriptor)
            buffer.deallocate()
            throw error
        }
        decoder =
            switch kind {
            case FileKind.gzip: Gzip()
            case FileKind.zstd: Zstd(window)
            default: Plain()
            }
        compression = decoder is Plain ? nil : kind
    }

    deinit {
        close(descriptor)
        buffer.deallocate()
    }

    /// Writes the next decompressed bytes to the front of `out`. Returns their number; 0 at the end of the file.
    /// Throws `FileError` if the file cannot be read, and `CorpusError` if it cannot be decompressed.
    func read(into out: UnsafeMutableRawBufferPointer) throws -> Int {
        while true {
            if pending.isEmpty, !isAtEnd {
                let count = try ByteSource.read(descriptor, buffer, path)
                pending = 0..<count
                isAtEnd = count == 0
            }
            let input = UnsafeRawBufferPointer(rebasing: buffer[pending])
            do {
                let (consumed, produced) = try decoder.decode(input, into: out, isAtEnd: isAtEnd)
                pending = pending.lowerBound + consumed..<pending.upperBound
                if produced > 0 { return produced }
                if isAtEnd, pending.isEmpty { return 0 }
            } catch {
                throw CorpusError.damagedCompression(path: path, reason: error.reason)
            }
        }
    }

    private static func read(
        _ descriptor: Int32, _ buffer: UnsafeMutableRawBufferPointer, _ path: String
    ) throws(FileError) -> Int {
        while true {
            let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            if count >= 0 { return count }
            if errno != EINTR { throw FileError("read", path) }
        }
    }
}

/// A decompressor that takes the compressed stream in pieces.
private protocol Decoder: AnyObject {
    /// Decompresses bytes from the front of `input` to the front of `out`. Returns how many bytes of `input` were
    /// consumed, and how many of `out` were written. With `isAtEnd`, no input comes after `input`. Throws if the
    /// stream is damaged or cut short.
    func decode(
        _ input: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer, isAtEnd: Bool
    ) throws(DecodingProblem) -> (consumed: Int, produced: Int)
}

private struct DecodingProblem: Error {
    let reason: String
}

private final class Plain: Decoder {
    func decode(
        _ input: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer, isAtEnd: Bool
    ) -> (consumed: Int, produced: Int) {
        let count = min(input.count, out.count)
        out.copyMemory(from: UnsafeRawBufferPointer(rebasing: input.prefix(count)))
        return (count, count)
    }
}

/// Decodes gzip with any number of members.
private final class Gzip: Decoder {
    private let inflater = Inflater(.gzip)
    private var isBetweenMembers = true
    private var hasMember = false

    func decode(
        _ input: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer, isAtEnd: Bool
    ) throws(DecodingProblem) -> (consumed: Int, produced: Int) {
        if input.isEmpty {
            guard !isAtEnd || isBetweenMembers else {
                throw DecodingProblem(reason: "the gzip stream is cut short")
            }
            if isBetweenMembers { return (0, 0) }
        }
        if isBetweenMembers, hasMember, input.first == 0 {
            // Zero bytes after the last member are padding. The gzip command ignores them too.
            return (input.prefix { $0 == 0 }.count, 0)
        }
        let (consumed, produced, status) = inflater.read(input, into: out)
        switch status {
        case .more: if consumed > 0 { isBetweenMembers = false }
        case .end:
            inflater.reset()
            (isBetweenMembers, hasMember) = (true, true)
        case .damaged where isBetweenMembers && hasMember:
            throw DecodingProblem(
                reason: "other bytes follow the gzip stream after its end")
        case .damaged(let reason):
            throw DecodingProblem(reason: "the gzip stream is damaged (\(reason))")
        }
        return (consumed, produced)
    }
}

/// The limit on the window of a zstd file. The window is the part of the output that the decoder keeps in memory.
package enum CompressionWindow: Sendable {
    /// 2 GiB, for the user's own files. This is the maximum of the zstd command (`zstd --long=31`).
    case any
    /// 128 MiB, for files from the Hub. The zstd command (without options) and Hugging Face's `datasets` have the
    /// same limit. Without it, a file of a few kilobytes could make the decoder reserve 2 GiB.
    case usual

    fileprivate var log: Int32 { self == .any ? 31 : 27 }
}

/// Decodes Zstandard with any number of frames.
private final class Zstd: Decoder {
    private let stream: OpaquePointer?
    private let window: CompressionWindow
    /// The last result of `ZSTD_decompressStream`: 0 at the end of a frame.
    private var hint = 0

    init(_ window: CompressionWindow) {
        self.window = window
        stream = ZSTD_createDStream()
        ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, window.log)
    }

    deinit { ZSTD_freeDStream(stream) }

    func decode(
        _ input: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer, isAtEnd: Bool
    ) throws(DecodingProblem) -> (consumed: Int, produced: Int) {
        if input.isEmpty, hint == 0 { return (0, 0) }
        var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
        var target = ZSTD_outBuffer(dst: out.baseAddress, size: out.count, pos: 0)
        let status = ZSTD_decompressStream(stream, &target, &source)
        guard ZSTD_isError(status) == 0 else {
            if window == .usual,
                ZSTD_getErrorCode(status) == ZSTD_error_frameParameter_windowTooLarge
            {
                throw DecodingProblem(
                    reason:
                        "its zstd stream needs a window of more than \((1 << window.log) >> 20) MiB of memory, the limit for files from the Hub; if you trust the file, give its path with --data_path"
                )
            }
            let reason = String(cString: ZSTD_getErrorName(status))
            throw DecodingProblem(reason: "the zstd stream is damaged (\(reason))")
        }
        hint = status
        guard !isAtEnd || target.pos > 0 || status == 0 || source.pos > 0 else {
            throw DecodingProblem(reason: "the zstd stream is cut short")
        }
        return (source.pos, target.pos)
    }
}
