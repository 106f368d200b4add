// zlib, as far as ZIP members and gzip files need it.

import CZlib
import Glibc

/// CRC-32 (ISO 3309) of `bytes`, going on from `crc`.
public func crc32(_ bytes: UnsafeRawBufferPointer, from crc: UInt32 = 0) -> UInt32 {
    guard let base = bytes.baseAddress else { return crc }
    return UInt32(
        CZlib.crc32_z(
            UInt(crc), base.assumingMemoryBound(to: UInt8.self), z_size_t(bytes.count)))
}

/// CRC-32 of bytes whose CRC-32 is `first`, followed by `count` bytes whose CRC-32 is `second`.
public func crc32(_ first: UInt32, followedBy second: UInt32, count: Int) -> UInt32 {
    UInt32(CZlib.crc32_combine(UInt(first), UInt(second), count))
}

/// The stream encodings that zlib reads and writes.
public enum DeflateContainer: Sendable {
    /// Bare DEFLATE (RFC 1951), as in ZIP.
    case raw
    /// gzip (RFC 1952).
    case gzip

    fileprivate var windowBits: Int32 { self == .raw ? -15 : 15 + 16 }
}

/// A compressing stream: bytes in, DEFLATE out in pieces of up to 256 KiB.
public final class Deflater {
    private var stream = z_stream()
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)

    /// Starts a stream at zlib's `level` (1 fast … 9 small).
    public init(_ container: DeflateContainer = .raw, level: Int32) {
        let status = deflateInit2_(
            &stream, level, Z_DEFLATED, container.windowBits, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
            Int32(MemoryLayout<z_stream>.size))
        precondition(status == Z_OK, "zlib cannot start a stream: \(status)")
    }

    deinit {
        deflateEnd(&stream)
        buffer.deallocate()
    }

    /// Compresses `input`, giving `sink` what comes out; with `finish`, ends the stream.
    public func write(
        _ input: UnsafeRawBufferPointer, finish: Bool = false,
        to sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        var rest = input
        repeat {
            // zlib counts in 32 bits.
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece.count))
            stream.next_in = UnsafeMutablePointer(
                mutating: piece.baseAddress?.assumingMemoryBound(to: UInt8.self))
            stream.avail_in = UInt32(piece.count)
            let flush = finish && rest.isEmpty ? Z_FINISH : Z_NO_FLUSH
            repeat {
                stream.next_out = buffer.baseAddress!.assumingMemoryBound(to: UInt8.self)
                stream.avail_out = UInt32(buffer.count)
                let status = deflate(&stream, flush)
                precondition(status != Z_STREAM_ERROR, "zlib lost its state")
                let produced = buffer.count - Int(stream.avail_out)
                if produced > 0 { try sink(UnsafeRawBufferPointer(rebasing: buffer[..<produced])) }
            } while stream.avail_out == 0
        } while !rest.isEmpty
    }
}

/// A decompressing stream.
public final class Inflater {
    /// What a call to `read` ended with.
    public enum Status: Equatable, Sendable {
        /// More input or more room is needed.
        case more
        /// The stream's end was reached.
        case end
        /// The input is not a DEFLATE stream; zlib's words.
        case damaged(String)
    }

    private var stream = z_stream()

    /// Starts a stream.
    public init(_ container: DeflateContainer) {
        let status = inflateInit2_(
            &stream, container.windowBits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        precondition(status == Z_OK, "zlib cannot start a stream: \(status)")
    }

    deinit { inflateEnd(&stream) }

    /// Decompresses from the front of `input` into `output`; says how much of each was used.
    public func read(
        _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) -> (consumed: Int, produced: Int, status: Status) {
        let (available, room) = (min(input.count, 1 << 30), min(output.count, 1 << 30))
        stream.next_in = UnsafeMutablePointer(
            mutating: input.baseAddress?.assumingMemoryBound(to: UInt8.self))
        stream.avail_in = UInt32(available)
        stream.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.avail_out = UInt32(room)
        let code = inflate(&stream, Z_NO_FLUSH)
        let status: Status =
            switch code {
            case Z_OK, Z_BUF_ERROR: .more
            case Z_STREAM_END: .end
            default:
                .damaged(stream.msg.map { String(cString: $0) } ?? "zlib status \(code)")
            }
        return (available - Int(stream.avail_in), room - Int(stream.avail_out), status)
    }

    /// Makes ready for another stream.
    public func reset() {
        inflateReset(&stream)
    }
}
