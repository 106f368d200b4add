// Reads an array of any size from start to end without loading the whole array into memory.

import Files
import Glibc

/// An array in a `.npz` or `.npy` file. `forEachNonzero` reads its elements from start to end.
public struct ArrayScan: @unchecked Sendable {
    /// How the bytes of the array are stored.
    enum Source {
        /// The bytes of the array, header included. The data begins at byte `dataOffset`. `crc32` is the CRC-32 that
        /// the archive states; nil for a `.npy` file.
        case bytes(UnsafeRawBufferPointer, dataOffset: Int, crc32: UInt32?)
        /// A DEFLATE stream. The data begins at byte `dataOffset` of the unpacked bytes. `crc32` is the CRC-32 of the
        /// unpacked bytes.
        case deflated(UnsafeRawBufferPointer, dataOffset: Int, crc32: UInt32)
    }

    /// The name of the array in its archive; empty for a `.npy` file.
    public let name: String
    /// The path of the file, for messages.
    public let path: String
    /// The header of the array.
    public let header: NPYHeader
    /// The unpacked size in bytes, header included.
    public let size: Int
    private let source: Source
    /// The object that keeps the bytes valid.
    private let owner: AnyObject

    init(
        name: String, path: String, header: NPYHeader, size: Int, source: Source, owner: AnyObject
    ) {
        (self.name, self.path, self.header, self.size) = (name, path, header, size)
        (self.source, self.owner) = (source, owner)
    }

    /// Opens the array of the `.npy` file at `path`. Throws `FileError`, `UnexpectedFileError` or `NPZError`.
    public init(npy path: String) throws {
        let file = try MappedFile(path: path)
        let header: NPYHeader
        let length: Int
        do {
            (header, length) = try NPYHeader.read(file.bytes)
        } catch {
            throw file.explained(NPZError.badArray(path: path, reason: error.reason), as: .npy)
        }
        self.init(
            name: "", path: path, header: header, size: file.bytes.count,
            source: .bytes(file.bytes, dataOffset: length, crc32: nil), owner: file)
    }

    /// The number of elements, computed from the header. Call `checkSize` first: the product traps if it overflows.
    public var count: Int { header.shape.reduce(1, *) }

    /// Throws `NPZError` unless the elements are numbers and the size of the data fits the header.
    public func checkSize() throws {
        guard let elementSize else {
            throw NPZError.unsupported(
                path: path, array: name, reason: "has dtype '\(header.descr)', expected numbers")
        }
        guard byteCount(shape: header.shape, elementSize: elementSize) == dataSize else {
            throw bad(
                "has \(dataSize) bytes of data, expected the size of \(header.descr) \(header.shape)"
            )
        }
    }

    /// The size of the unpacked data in bytes.
    var dataSize: Int { size - dataOffset }

    /// The offset in bytes of the data in the unpacked bytes.
    private var dataOffset: Int {
        switch source {
        case .bytes(_, let offset, _), .deflated(_, let offset, _): offset
        }
    }

    /// The number of bytes of an element. Nil unless the elements are little-endian numbers of 1, 2, 4 or 8 bytes.
    public var elementSize: Int? {
        guard let order = header.descr.first,
            let size = ArrayScan.sizes[String(header.descr.dropFirst())],
            order == "<" || (order == "|" && size == 1)
        else { return nil }
        return size
    }

    /// The size in bytes of each of NumPy's number types, by name without the byte order.
    private static let sizes = [
        "f2": 2, "f4": 4, "f8": 8, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "u2": 2, "u4": 4,
        "u8": 8, "b1": 1,
    ]

    /// Calls `body` with the index and the bits of each element that is not all zero bits, in storage order. The time
    /// is proportional to the packed size plus the number of these elements. Throws `NPZError`, or what `body`
    /// throws. A compressed array is checked during the calls. If it is damaged, `body` may have been called before
    /// the error.
    public func forEachNonzero(_ body: (_ index: Int, _ bits: UInt64) throws -> Void) throws {
        try checkSize()
        var elements = ElementAssembler(size: elementSize!, offset: dataOffset)
        switch source {
        case .bytes(let bytes, _, let crc):
            if let crc, Files.crc32(bytes) != crc { throw bad("has a wrong CRC-32") }
            try forEachWord(of: bytes) { try elements.add($0, $1, body) }
        case .deflated(let packed, _, let crc):
            let outcome: ZeroRunInflater.Outcome
            do {
                outcome = try ZeroRunInflater.decode(packed, size: size) {
                    try elements.add($0, $1, body)
                }
            } catch let problem as ZeroRunInflater.Problem {
                throw bad(ArrayScan.words(for: problem))
            }
            guard outcome.size == size else {
                throw bad("inflates to \(size - outcome.size) bytes less than the directory says")
            }
            guard outcome.crc32 == crc else { throw bad("has a wrong CRC-32") }
        }
        try elements.finish(body)
    }

    private func bad(_ reason: String) -> NPZError {
        name.isEmpty
            ? .badArray(path: path, reason: reason)
            : .badMember(path: path, member: name, reason: reason)
    }

    private static func words(for problem: ZeroRunInflater.Problem) -> String {
        switch problem {
        case .damaged(let reason): "does not inflate (\(reason))"
        case .truncated: "does not inflate to the size that the directory gives"
        case .tooLong: "inflates to more bytes than the directory says"
        }
    }

    /// Calls `body` with the index and bits of each nonzero 32-bit word. The last word is padded with zero bytes.
    private func forEachWord(
        of bytes: UnsafeRawBufferPointer, _ body: (Int, UInt32) throws -> Void
    ) throws {
        let whole = bytes.count / 4
        var index = 0
        while index < whole {
            // Skips zeros 16 words at a time.
            while index + 16 <= whole,
                bytes.loadUnaligned(fromByteOffset: 4 * index, as: SIMD16<UInt32>.self)
                    == SIMD16<UInt32>(repeating: 0)
            {
                index += 16
            }
            for word in index..<min(index + 16, whole) {
                let bits = UInt32(
                    littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * word, as: UInt32.self))
                if bits != 0 { try body(word, bits) }
            }
            index = min(index + 16, whole)
        }
        var rest: UInt32 = 0
        for offset in 4 * whole..<bytes.count {
            rest |= UInt32(bytes[offset]) << UInt32(8 * (offset & 3))
        }
        if rest != 0 { try body(whole, rest) }
    }
}

/// Assembles elements of 1, 2, 4 or 8 bytes from 32-bit words. The first element may begin at any byte of a word.
private struct ElementAssembler {
    private let size: Int
    private let offset: Int
    private var index = 0
    private var bits: UInt64 = 0

    init(size: Int, offset: Int) {
        (self.size, self.offset) = (size, offset)
    }

    @inline(__always)
    mutating func add(
        _ word: Int, _ value: UInt32, _ body: (Int, UInt64) throws -> Void
    ) throws {
        let start = 4 * word - offset
        if size == 4, start & 3 == 0 {
            if start >= 0 { try body(start >> 2, UInt64(value)) }
            return
        }
        for i in 0..<4 {
            let byte = UInt64(value >> UInt32(8 * i) & 0xFF)
            guard byte != 0, start + i >= 0 else { continue }
            let now = (start + i) / size
            if now != index {
                try finish(body)
                index = now
            }
            bits |= byte << UInt64(8 * ((start + i) % size))
        }
    }

    /// Passes the current element to `body` if it is not zero.
    mutating func finish(_ body: (Int, UInt64) throws -> Void) throws {
        if bits != 0 { try body(index, bits) }
        bits = 0
    }
}
