// The parts of zlib that ZIP members and gzip files need.

import CZlib
import Glibc

/// Returns the CRC-32 (ISO 3309) of `bytes`; `crc` is the checksum of the preceding bytes.
public func crc32(_ bytes: UnsafeRawBufferPointer, from crc: UInt32 = 0) -> UInt32 {
    guard let base = bytes.baseAddress else { return crc }
    return UInt32(
        CZlib.crc32_z(
            UInt(crc), base.assumingMemoryBound(to: UInt8.self), z_size_t(bytes.count)))
}

/// Returns the CRC-32 of bytes whose CRC-32 is `first`, followed by `count` bytes whose CRC-32 is `second`.
public func crc32(_ first: UInt32, followedBy second: UInt32, count: Int) -> UInt32 {
    UInt32(CZlib.crc32_combine(UInt(first), UInt(second), count))
}

/// The formats of compressed streams that this program reads and writes with zlib.
public enum DeflateContainer: Sendable {
    /// Bare DEFLATE (RFC 1951), as in ZIP.
    case raw
    /// gzip (RFC 1952).
    case gzip

    fileprivate var windowBits: Int32 { self == .raw ? -15 : 15 + 16 }
}

/// A compressing stream. Its output comes in pieces of up to 256 KiB.
public final class Deflater {
    private var stream = z_stream()
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)

    /// Starts a stream with zlib's compression `level` (1 is fastest, 9 is smallest).
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

    /// Compresses `input` and passes the output to `sink`. With `finish`, ends the stream. Throws what `sink` throws.
    public func write(
        _ input: UnsafeRawBufferPointer, finish: Bool = false,
        to sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        var rest = input
        repeat {
            // zlib counts bytes in 32 bits, so it gets at most 1 GiB at once.
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
    /// How a call of `read` ended.
    public enum Status: Equatable, Sendable {
        /// More input or more space for output is needed.
        case more
        /// The end of the stream was reached.
        case end
        /// The input is not a valid stream; the string is zlib's message.
        case damaged(String)
    }

    private var stream = z_stream()

    /// Starts a stream in the format `container`.
    public init(_ container: DeflateContainer) {
        let status = inflateInit2_(
            &stream, container.windowBits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        precondition(status == Z_OK, "zlib cannot start a stream: \(status)")
    }

    deinit { inflateEnd(&stream) }

    /// Decompresses the bytes at the start of `input` into `output`, at most 1 GiB of each. Returns the numbers of
    /// bytes read and written, and how the call ended.
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

    /// Makes the object ready for another stream of the same format.
    public func reset() {
        inflateReset(&stream)
    }
}
