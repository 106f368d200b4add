// Reads NumPy's .npz archives: ZIP files whose members are .npy arrays, stored or deflated.
// ZIP: PKWARE APPNOTE.TXT 6.3, including ZIP64.

import Files
import Glibc

/// The error for a `.npz` or `.npy` file that was refused. It names the file, and the array if only one array is
/// wrong.
public enum NPZError: Error, Equatable, CustomStringConvertible {
    /// The file is not a ZIP file, or its directory is damaged.
    case badArchive(path: String, reason: String)
    /// The file is not a `.npy` file, or it is damaged.
    case badArray(path: String, reason: String)
    /// A member cannot be read.
    case badMember(path: String, member: String, reason: String)
    /// An array is stored in a form that this program does not read.
    case unsupported(path: String, array: String, reason: String)
    /// A requested array is not in the archive. `present` lists the names of the arrays in the archive.
    case missingArray(path: String, array: String, present: [String])

    /// The path of the file.
    public var path: String {
        switch self {
        case .badArchive(let path, _), .badArray(let path, _), .badMember(let path, _, _),
            .unsupported(let path, _, _), .missingArray(let path, _, _):
            path
        }
    }

    /// What is wrong, without the path and the next step.
    public var reason: String {
        switch self {
        case .badArchive(_, let reason), .badArray(_, let reason): reason
        case .badMember(_, let array, let reason), .unsupported(_, let array, let reason):
            "array \(array) \(reason)"
        case .missingArray(_, let array, let present):
            "array \(array) is not in the archive, which has \(present.isEmpty ? "no arrays" : "these arrays: " + present.sorted().joined(separator: ", "))"
        }
    }

    /// The path, what is wrong, and the next step.
    public var description: String { "\(path): \(reason); \(nextStep)" }

    private var nextStep: String {
        switch self {
        case .badArchive:
            "the file is damaged or not an .npz archive: download or export it again"
        case .badArray:
            "the file is damaged or not a .npy array of plain numbers: download or export it again"
        case .badMember: "the file is damaged: download or export it again"
        case .unsupported:
            "save all arrays of this file again with np.savez (uncompressed), as float32"
        case .missingArray: "check that this is the right file"
        }
    }
}

/// A memory-mapped `.npz` archive whose ZIP directory has been checked.
public struct NPZReader: Sendable {
    /// The memory-mapped file of the archive.
    public let file: MappedFile
    private let members: [String: Member]

    private struct Member {
        /// The name of the array: the name of the member without `.npy`.
        var name: String
        var method: UInt16
        var crc: UInt32
        var compressedSize: Int
        var size: Int
        var localOffset: Int
    }

    /// Memory-maps the file at `path` and reads its ZIP directory. Throws `FileError`, `UnexpectedFileError` or
    /// `NPZError`.
    public init(path: String) throws {
        file = try MappedFile(path: path, .onDemand)
        do {
            members = try NPZReader.readDirectory(file)
        } catch {
            throw file.explained(error, as: .npz)
        }
    }

    /// The names of the arrays, without `.npy`, in no particular order.
    public var names: [String] { Array(members.keys) }

    /// Returns the header of array `name` and a copy of its data, of any type. Throws `NPZError` or `FileError`.
    public func array(_ name: String) throws -> (header: NPYHeader, data: [UInt8]) {
        let array = try locate(name)
        return withExtendedLifetime(array.owner) { (array.header, Array(array.data)) }
    }

    /// Returns the header of array `name` and the unpacked data, which is valid as long as `owner` exists. Throws
    /// `NPZError` or `FileError`.
    private func locate(
        _ name: String
    ) throws -> (header: NPYHeader, data: UnsafeRawBufferPointer, owner: AnyObject) {
        let member = try member(name)
        let (bytes, owner) = try contents(of: member)
        guard crc32(bytes) == member.crc else { throw bad(member, "has a wrong CRC-32") }
        let (header, length) = try header(in: bytes, of: member)
        return (header, UnsafeRawBufferPointer(rebasing: bytes[length...]), owner)
    }

    /// Returns array `name` as a tensor. Throws `NPZError` if the array is missing or damaged, or if its type is not
    /// `<f4` or `<f2`. Throws `FileError` if there is no memory for the unpacked array.
    public func tensor(_ name: String) throws -> StoredTensor {
        let (header, data, owner) = try locate(name)
        return StoredTensor(
            name: name, path: file.path,
            elementType: try elementType(of: name, header, dataSize: data.count),
            shape: header.shape, isFortranOrder: header.isFortranOrder, bytes: data, owner: owner)
    }

    /// Returns element type and shape of array `name`. Reads only the front of the array. Throws as `tensor` does.
    public func tensorHeader(_ name: String) throws -> (elementType: ElementType, shape: [Int]) {
        let member = try member(name)
        let (header, length) = try frontHeader(
            of: member, try storedBytes(of: member, loading: NPZReader.longestHeader))
        let type = try elementType(of: name, header, dataSize: member.size - length)
        return (type, header.shape)
    }

    /// Weights of up to this number of unpacked bytes may have any compression ratio.
    static let freelyUnpacked = 64 << 20
    /// The largest allowed ratio of unpacked to packed size. Trained weights have a ratio of about 1.25, an array of
    /// zeros about 1000.
    private static let mostUnpacking = 64

    /// Throws `NPZError` if the weights `name` would unpack to far more bytes than they have in the file. Otherwise,
    /// a small file could use up all memory.
    public func checkUnpacking(ofWeights name: String) throws {
        let member = try member(name)
        guard member.method != 0, member.size > NPZReader.freelyUnpacked,
            member.size / NPZReader.mostUnpacking > member.compressedSize
        else { return }
        throw NPZError.unsupported(
            path: file.path, array: name,
            reason:
                "unpacks to \(member.size) bytes, more than \(NPZReader.mostUnpacking) times the \(member.compressedSize) bytes that it takes in the file; trained weights do not compress that well"
        )
    }

    private func elementType(
        of name: String, _ header: NPYHeader, dataSize: Int
    ) throws -> ElementType {
        guard let elementType = NPZReader.elementTypes[header.descr] else {
            throw NPZError.unsupported(
                path: file.path, array: name,
                reason: "has dtype '\(header.descr)', expected '<f4' or '<f2'")
        }
        guard byteCount(shape: header.shape, elementSize: elementType.size) == dataSize else {
            throw NPZError.badMember(
                path: file.path, member: name,
                reason:
                    "has \(dataSize) bytes of data, expected the size of \(header.descr) \(header.shape)"
            )
        }
        return elementType
    }

    private static let elementTypes: [String: ElementType] = ["<f4": .float32, "<f2": .float16]

    private func bad(_ member: Member, _ reason: String) -> NPZError {
        .badMember(path: file.path, member: member.name, reason: reason)
    }

    /// Returns array `name` for reading from start to end, without unpacking all of it into memory. Throws `NPZError`
    /// or `FileError`.
    public func scan(_ name: String) throws -> ArrayScan {
        let member = try member(name)
        let packed = try storedBytes(of: member)
        let (header, data) = try frontHeader(of: member, packed)
        return ArrayScan(
            name: name, path: file.path, header: header, size: member.size,
            source: member.method == 0
                ? .bytes(packed, dataOffset: data, crc32: member.crc)
                : .deflated(packed, dataOffset: data, crc32: member.crc), owner: file)
    }

    /// The number of bytes at the front of a member that are enough for its whole header, both unpacked and packed.
    private static let longestHeader = NPYHeader.longest + 12

    /// Returns the header of `member` and the header's unpacked length in bytes. `packed` are the bytes of `member`
    /// in the file, at least the first `longestHeader` of them.
    private func frontHeader(
        of member: Member, _ packed: UnsafeRawBufferPointer
    ) throws -> (header: NPYHeader, length: Int) {
        guard member.method != 0 else { return try header(in: packed, of: member) }
        let front = try OwnedBytes(
            count: min(member.size, NPZReader.longestHeader), for: file.path)
        let (_, produced, status) = Inflater(.raw).read(packed, into: front.bytes)
        if case .damaged(let reason) = status {
            throw bad(member, "does not inflate (\(reason))")
        }
        return try header(
            in: UnsafeRawBufferPointer(rebasing: front.bytes[..<produced]), of: member)
    }

    private func header(
        in bytes: UnsafeRawBufferPointer, of member: Member
    ) throws -> (header: NPYHeader, length: Int) {
        do {
            return try NPYHeader.read(bytes)
        } catch {
            throw bad(member, error.reason)
        }
    }

    /// Returns the number of bytes that array `name` has in the file, after compression. Throws `NPZError`.
    public func packedSize(of name: String) throws -> Int { try member(name).compressedSize }

    // MARK: Members

    private func member(_ name: String) throws -> Member {
        guard let member = members[name] else {
            // If the file is a ZIP archive of PyTorch, `explained` returns an error that says so.
            throw file.explained(
                NPZError.missingArray(path: file.path, array: name, present: names), as: .npz)
        }
        return member
    }

    /// Returns the first `limit` bytes of `member` as they are in the file, or all if there are fewer. Throws
    /// `NPZError` or `FileError`.
    private func storedBytes(
        of member: Member, loading limit: Int = .max
    ) throws -> UnsafeRawBufferPointer {
        let archive = file.bytes
        let start = member.localOffset
        func hasHeader() throws -> Bool {
            guard start + 30 <= archive.count else { return false }
            try file.load(start..<start + 30)
            return archive.u32(start) == 0x0403_4B50
        }
        guard try hasHeader() else {
            throw bad(member, "has no local header at the offset that the directory gives")
        }
        // The local header may have placeholders instead of sizes, so the sizes come from the directory. Only the
        // lengths of the name and of the extra field come from the local header.
        let data = start + 30 + Int(archive.u16(start + 26)) + Int(archive.u16(start + 28))
        guard data <= archive.count, member.compressedSize <= archive.count - data else {
            throw bad(member, "reaches beyond the end of the file")
        }
        switch member.method {
        case 0:
            guard member.size == member.compressedSize else {
                throw bad(member, "is not compressed, but its compressed and unpacked sizes differ")
            }
        case 8:
            // DEFLATE unpacks to at most 1032 times the packed size. A larger announced size is an error. It is found
            // here, before memory is allocated.
            guard member.size <= 1032 * member.compressedSize + 1024 else {
                throw bad(
                    member, "announces \(member.size) bytes, more than its compressed data can hold"
                )
            }
        default:
            throw NPZError.unsupported(
                path: file.path, array: member.name,
                reason: "uses compression method \(member.method), expected stored or deflated")
        }
        let part = data..<data + min(member.compressedSize, limit)
        try file.load(part)
        return UnsafeRawBufferPointer(rebasing: archive[part])
    }

    private func contents(
        of member: Member
    ) throws -> (bytes: UnsafeRawBufferPointer, owner: AnyObject) {
        let stored = try storedBytes(of: member)
        return member.method == 0 ? (stored, file) : try inflate(member, stored)
    }

    private func inflate(
        _ member: Member, _ stored: UnsafeRawBufferPointer
    ) throws -> (UnsafeRawBufferPointer, AnyObject) {
        let memory = try OwnedBytes(count: member.size, for: file.path)
        let inflater = Inflater(.raw)
        var (input, output) = (stored, memory.bytes)
        while true {
            let (consumed, produced, status) = inflater.read(input, into: output)
            input = UnsafeRawBufferPointer(rebasing: input.dropFirst(consumed))
            output = UnsafeMutableRawBufferPointer(rebasing: output.dropFirst(produced))
            if status == .end { break }
            if case .damaged(let reason) = status {
                throw bad(member, "does not inflate (\(reason))")
            }
            guard consumed > 0 || produced > 0 else {
                throw bad(member, "does not inflate to the size that the directory gives")
            }
        }
        guard output.isEmpty else {
            throw bad(member, "inflates to \(output.count) bytes less than the directory says")
        }
        return (UnsafeRawBufferPointer(memory.bytes), memory)
    }

    // MARK: Directory

    private static func readDirectory(_ file: MappedFile) throws -> [String: Member] {
        let archive = file.bytes
        func damaged(_ reason: String) -> NPZError { .badArchive(path: file.path, reason: reason) }
        // The end record is at the end of the file. It has 22 bytes and a comment of at most 65,535 bytes.
        let earliest = max(0, archive.count - 22 - 65_535)
        try file.load(earliest..<archive.count)
        guard archive.count >= 22,
            let end = stride(from: archive.count - 22, through: earliest, by: -1).first(where: {
                archive.u32($0) == 0x0605_4B50
                    && $0 + 22 + Int(archive.u16($0 + 20)) == archive.count
            })
        else { throw damaged("there is no ZIP directory at its end") }
        var count = Int(archive.u16(end + 10))
        var offset = Int(archive.u32(end + 16))
        if end >= 20 { try file.load(end - 20..<end) }
        if end >= 20, archive.u32(end - 20) == 0x0706_4B50 {
            guard let record = Int(exactly: archive.u64(end - 20 + 8)),
                record <= archive.count - 56,
                try loaded(file, record, 56).u32(record) == 0x0606_4B50,
                let wideCount = Int(exactly: archive.u64(record + 32)),
                let wideOffset = Int(exactly: archive.u64(record + 48))
            else { throw damaged("its ZIP64 directory is damaged") }
            (count, offset) = (wideCount, wideOffset)
        }
        // Loads everything from the start of the directory on. The size that the end record gives for the directory
        // is not needed.
        if (0...end).contains(offset) { try file.load(offset..<archive.count) }
        var members: [String: Member] = [:]
        for _ in 0..<count {
            guard offset >= 0, offset <= archive.count - 46, archive.u32(offset) == 0x0201_4B50
            else { throw damaged("its ZIP directory is cut short or damaged") }
            let (member, length) = try readEntry(archive, at: offset, damaged: damaged)
            offset += length
            guard members.updateValue(member, forKey: member.name) == nil else {
                throw damaged("it has two arrays called \(member.name)")
            }
        }
        return members
    }

    /// Loads `count` bytes at `offset` and returns the bytes of the whole file.
    private static func loaded(
        _ file: MappedFile, _ offset: Int, _ count: Int
    ) throws -> UnsafeRawBufferPointer {
        try file.load(offset..<offset + count)
        return file.bytes
    }

    private static func readEntry(
        _ archive: UnsafeRawBufferPointer, at offset: Int, damaged: (String) -> NPZError
    ) throws -> (member: Member, length: Int) {
        let nameLength = Int(archive.u16(offset + 28))
        let extraLength = Int(archive.u16(offset + 30))
        let length = 46 + nameLength + extraLength + Int(archive.u16(offset + 32))
        guard length <= archive.count - offset else {
            throw damaged("its ZIP directory is cut short or damaged")
        }
        var name = String(
            decoding: archive[offset + 46..<offset + 46 + nameLength], as: UTF8.self)
        if name.hasSuffix(".npy") { name.removeLast(4) }
        guard archive.u16(offset + 8) & 1 == 0 else { throw damaged("\(name) is encrypted") }
        // A field that does not fit into 32 bits is in the ZIP64 extra field, in this order: unpacked size, packed
        // size, offset.
        var wide = zip64Fields(archive, from: offset + 46 + nameLength, count: extraLength)
        func field(_ position: Int) throws -> Int {
            let value = archive.u32(offset + position)
            guard value == .max else { return Int(value) }
            guard !wide.isEmpty, let size = Int(exactly: wide.removeFirst()) else {
                throw damaged("\(name) has an invalid size")
            }
            return size
        }
        let size = try field(24)
        let compressedSize = try field(20)
        let localOffset = try field(42)
        guard localOffset <= archive.count else {
            throw damaged("\(name) begins beyond the end of the file")
        }
        let member = Member(
            name: name, method: archive.u16(offset + 10), crc: archive.u32(offset + 16),
            compressedSize: compressedSize, size: size, localOffset: localOffset)
        return (member, length)
    }

    private static func zip64Fields(
        _ archive: UnsafeRawBufferPointer, from start: Int, count: Int
    ) -> [UInt64] {
        var position = start
        while position + 4 <= start + count {
            let (tag, size) = (archive.u16(position), Int(archive.u16(position + 2)))
            position += 4
            guard position + size <= start + count else { break }
            if tag == 1 {
                return stride(from: position, through: position + size - 8, by: 8).map {
                    archive.u64($0)
                }
            }
            position += size
        }
        return []
    }
}

/// Allocated memory. It is freed when the last reference to this object is released.
final class OwnedBytes {
    let bytes: UnsafeMutableRawBufferPointer

    /// Allocates `count` bytes for content of the file at `path`. Throws `FileError` if the system refuses them.
    init(count: Int, for path: String) throws(FileError) {
        var memory: UnsafeMutableRawPointer?
        let status = posix_memalign(&memory, 64, max(1, count))
        guard status == 0, let memory else {
            throw FileError("reserve memory for", path, code: status)
        }
        bytes = UnsafeMutableRawBufferPointer(start: memory, count: count)
    }

    deinit { free(bytes.baseAddress) }
}

extension UnsafeRawBufferPointer {
    fileprivate func u16(_ offset: Int) -> UInt16 {
        UInt16(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    fileprivate func u32(_ offset: Int) -> UInt32 {
        UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    fileprivate func u64(_ offset: Int) -> UInt64 {
        UInt64(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
}
