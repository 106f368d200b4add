// Reading NumPy's .npz archives: a ZIP file whose members are .npy arrays, stored or deflated.
// ZIP: PKWARE APPNOTE.TXT 6.3, including ZIP64.

import Files
import Glibc

/// Why an archive was refused. Each names the file and, where there is one, the array.
public enum NPZError: Error, Equatable, CustomStringConvertible {
    /// Not a ZIP file, or one whose directory is damaged.
    case badArchive(path: String, reason: String)
    /// Not a `.npy` file, or one that is damaged.
    case badArray(path: String, reason: String)
    /// A member that cannot be read.
    case badMember(path: String, member: String, reason: String)
    /// An array stored in a way that this program does not read.
    case unsupported(path: String, array: String, reason: String)
    /// An array that is wanted is not there.
    case missingArray(path: String, array: String, present: [String])

    /// The file.
    public var path: String {
        switch self {
        case .badArchive(let path, _), .badArray(let path, _), .badMember(let path, _, _),
            .unsupported(let path, _, _), .missingArray(let path, _, _):
            path
        }
    }

    /// What is wrong with it, without a next step.
    public var reason: String {
        switch self {
        case .badArchive(_, let reason), .badArray(_, let reason): reason
        case .badMember(_, let array, let reason), .unsupported(_, let array, let reason):
            "array \(array) \(reason)"
        case .missingArray(_, let array, let present):
            "array \(array) is not in the archive, which has \(present.isEmpty ? "none" : present.sorted().joined(separator: ", "))"
        }
    }

    /// What is wrong, where, and the next step.
    public var description: String { "\(path): \(reason); \(nextStep)" }

    private var nextStep: String {
        switch self {
        case .badArchive:
            "the file is damaged or not an .npz archive: download or export it again"
        case .badArray:
            "the file is damaged or not a .npy array of plain numbers: download or export it again"
        case .badMember: "the file is damaged: download or export it again"
        case .unsupported: "save it again with np.savez as float32"
        case .missingArray: "check that this is the right file"
        }
    }
}

/// A mapped `.npz` archive whose directory has been checked.
public struct NPZReader: Sendable {
    /// The file.
    public let file: MappedFile
    private let members: [String: Member]

    private struct Member {
        /// The array's name: the member's without `.npy`.
        var name: String
        var method: UInt16
        var crc: UInt32
        var compressedSize: Int
        var size: Int
        var localOffset: Int
    }

    /// Maps `path` and reads its central directory. Throws `FileError`, `UnexpectedFileError` or `NPZError`.
    public init(path: String) throws {
        file = try MappedFile(path: path, .onDemand)
        do {
            members = try NPZReader.readDirectory(file)
        } catch {
            throw file.explained(error, as: .npz)
        }
    }

    /// Names of the arrays, without `.npy`.
    public var names: [String] { Array(members.keys) }

    /// The header of array `name` and a copy of its data, of whatever type. Throws `NPZError` and `FileError`.
    public func array(_ name: String) throws -> (header: NPYHeader, data: [UInt8]) {
        let array = try locate(name)
        return withExtendedLifetime(array.owner) { (array.header, Array(array.data)) }
    }

    /// The header of array `name` and its data as stored or unpacked, valid as long as `owner`.
    private func locate(
        _ name: String
    ) throws -> (header: NPYHeader, data: UnsafeRawBufferPointer, owner: AnyObject) {
        let member = try member(name)
        let (bytes, owner) = try contents(of: member)
        guard crc32(bytes) == member.crc else { throw bad(member, "has a wrong CRC-32") }
        let (header, length) = try header(in: bytes, of: member)
        return (header, UnsafeRawBufferPointer(rebasing: bytes[length...]), owner)
    }

    /// Array `name` as a tensor of floats. Throws `NPZError` where it is missing or of another type, `FileError` where the system
    /// gives no memory to unpack it to.
    public func tensor(_ name: String) throws -> StoredTensor {
        let (header, data, owner) = try locate(name)
        return StoredTensor(
            name: name, path: file.path,
            elementType: try elementType(of: name, header, dataSize: data.count),
            shape: header.shape, isFortranOrder: header.isFortranOrder, bytes: data, owner: owner)
    }

    /// Type and shape of array `name`, without reading or unpacking its data. Throws as `tensor` does.
    public func tensorHeader(_ name: String) throws -> (elementType: ElementType, shape: [Int]) {
        let member = try member(name)
        let (header, length) = try frontHeader(
            of: member, try storedBytes(of: member, loading: NPZReader.longestHeader))
        let type = try elementType(of: name, header, dataSize: member.size - length)
        return (type, header.shape)
    }

    /// Up to how many bytes weights may unpack to whatever they take in the file.
    static let freelyUnpacked = 64 << 20
    /// Trained weights pack to four fifths, pruned ones to less; zeros alone pack to a thousandth.
    private static let mostUnpacking = 64

    /// Fails where array `name`, which holds weights, would unpack to much more than there is in the file: one of a few megabytes
    /// could ask for all memory. Throws `NPZError`.
    public func checkUnpacking(ofWeights name: String) throws {
        let member = try member(name)
        guard member.method != 0, member.size > NPZReader.freelyUnpacked,
            member.size / NPZReader.mostUnpacking > member.compressedSize
        else { return }
        throw NPZError.unsupported(
            path: file.path, array: name,
            reason:
                "unpacks to \(member.size) bytes, more than \(NPZReader.mostUnpacking) times the \(member.compressedSize) that it takes in the file, as no trained weights do"
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
                    "has \(dataSize) bytes of data, which is not \(header.descr) \(header.shape)")
        }
        return elementType
    }

    private static let elementTypes: [String: ElementType] = ["<f4": .float32, "<f2": .float16]

    private func bad(_ member: Member, _ reason: String) -> NPZError {
        .badMember(path: file.path, member: member.name, reason: reason)
    }

    /// Array `name`, to be gone through without unpacking it. Throws `NPZError`.
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

    /// The front of a member that has all of its header; packed, it is no longer.
    private static let longestHeader = NPYHeader.longest + 12

    /// The header of `member`, of which `packed` is the front at least.
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

    /// Bytes that array `name` takes in the file. Throws `NPZError`.
    public func packedSize(of name: String) throws -> Int { try member(name).compressedSize }

    // MARK: Members

    private func member(_ name: String) throws -> Member {
        guard let member = members[name] else {
            // What PyTorch writes is an archive too.
            throw file.explained(
                NPZError.missingArray(path: file.path, array: name, present: names), as: .npz)
        }
        return member
    }

    /// What the archive has of `member`, as it is packed: of long ones the first `limit` bytes.
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
            throw bad(member, "has no local header where the directory says")
        }
        // Sizes in local headers may be placeholders; only the lengths of name and extra field count.
        let data = start + 30 + Int(archive.u16(start + 26)) + Int(archive.u16(start + 28))
        guard data <= archive.count, member.compressedSize <= archive.count - data else {
            throw bad(member, "reaches beyond the end of the file")
        }
        switch member.method {
        case 0:
            guard member.size == member.compressedSize else {
                throw bad(member, "is stored, but its two sizes differ")
            }
        case 8:
            // DEFLATE cannot expand beyond 1032:1, so a hostile size is refused before memory is taken.
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
        // The end record is 22 bytes plus a comment of at most 65,535.
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
        // It lies before its end record, whatever it says of its own size.
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

    /// The file's bytes, with `count` of them at `offset` loaded.
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
        // Fields that do not fit 32 bits stand in the ZIP64 extra field, in this order.
        var wide = zip64Fields(archive, from: offset + 46 + nameLength, count: extraLength)
        func field(_ position: Int) throws -> Int {
            let value = archive.u32(offset + position)
            guard value == .max else { return Int(value) }
            guard !wide.isEmpty, let size = Int(exactly: wide.removeFirst()) else {
                throw damaged("\(name) has a size that cannot be")
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

/// Memory of its own, freed with the last reference.
final class OwnedBytes {
    let bytes: UnsafeMutableRawBufferPointer

    /// `count` bytes for what the file at `path` holds. Throws `FileError` where the system does not give them.
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
