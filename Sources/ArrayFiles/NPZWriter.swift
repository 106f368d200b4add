// Writes .npz archives as a stream. No member is in memory as a whole, so a member can have any size.
// ZIP: PKWARE APPNOTE.TXT 6.3. As in NumPy's archives, every local header has the ZIP64 field.

import Files

/// Writes a ZIP archive of deflated `.npy` arrays into an `OutputFile`.
public final class NPZWriter {
    private let file: OutputFile
    private let level: Int32
    private var directory: [Member] = []
    private var open: (member: Member, deflater: Deflater)?

    private struct Member {
        var name: String
        var offset: Int
        var crc: UInt32 = 0
        var size = 0
        var compressedSize = 0
    }

    /// Writes to `file`, starting with its first byte, with zlib's compression `level`.
    public init(_ file: OutputFile, level: Int32) {
        self.file = file
        self.level = level
    }

    /// Begins array `name` with `header`. The caller then passes the data to `write`, and calls `end`.
    public func begin(_ name: String, _ header: NPYHeader) throws {
        precondition(open == nil, "the array before is not complete")
        let member = Member(name: name + ".npy", offset: file.count)
        open = (member, Deflater(level: level))
        try file.write(localHeader(of: member))
        try header.encoded.withUnsafeBytes { try write($0) }
    }

    /// Appends data to the array that `begin` has begun.
    public func write(_ bytes: UnsafeRawBufferPointer) throws {
        open!.member.crc = crc32(bytes, from: open!.member.crc)
        open!.member.size += bytes.count
        try deflate(bytes, finish: false)
    }

    /// Completes the array that `begin` has begun.
    public func end() throws {
        try deflate(UnsafeRawBufferPointer(start: nil, count: 0), finish: true)
        try complete(open!.member)
        open = nil
    }

    /// Completes `member`. Its sizes and checksum are known only at the end, so this writes the local header again.
    private func complete(_ member: Member) throws {
        try file.overwrite(localHeader(of: member), at: member.offset)
        directory.append(member)
    }

    /// Writes an array whose whole data is in memory.
    public func add(_ name: String, _ header: NPYHeader, _ data: UnsafeRawBufferPointer) throws {
        try begin(name, header)
        try write(data)
        try end()
    }

    /// Writes a float32 array in C order from its nonzero `elements`, in time proportional to their number. Calls
    /// `elements` twice; both calls must give the same elements.
    public func addSparse(_ name: String, _ header: NPYHeader, _ elements: SparseElements) throws {
        precondition(open == nil, "the array before is not complete")
        precondition(header.descr == "<f4" && !header.isFortranOrder)
        var member = Member(name: name + ".npy", offset: file.count)
        try file.write(localHeader(of: member))
        let (start, head) = (file.count, header.encoded)
        let count = header.shape.reduce(1, *)
        member.crc = try SparseDeflate(head: head, count: count).write(elements, to: file)
        member.size = head.count + 4 * count
        member.compressedSize = file.count - start
        try complete(member)
    }

    /// Writes the ZIP directory at the end of the file. The caller then commits the file.
    public func finish() throws {
        precondition(open == nil, "the array before is not complete")
        let start = file.count
        for member in directory { try file.write(directoryEntry(of: member)) }
        try file.write(endRecords(directoryOffset: start, directorySize: file.count - start))
    }

    private func deflate(_ bytes: UnsafeRawBufferPointer, finish: Bool) throws {
        var produced = 0
        try open!.deflater.write(bytes, finish: finish) {
            produced += $0.count
            try file.write($0)
        }
        open!.member.compressedSize += produced
    }

    // MARK: Records

    private func localHeader(of member: Member) -> [UInt8] {
        var out = ByteRecord()
        out.u32(0x0403_4B50)
        appendCommon(member, size: .max, compressedSize: .max, to: &out)
        out.u16(20)  // length of the extra field
        out.bytes += member.name.utf8
        out.u16(1)  // ZIP64
        out.u16(16)
        out.u64(member.size)
        out.u64(member.compressedSize)
        return out.bytes
    }

    private func directoryEntry(of member: Member) -> [UInt8] {
        // In the directory, the ZIP64 field has only the values that do not fit into 32 bits.
        var wide = ByteRecord()
        func fitted(_ value: Int) -> UInt32 {
            if value < Int(UInt32.max) { return UInt32(value) }
            wide.u64(value)
            return .max
        }
        let size = fitted(member.size)
        let compressedSize = fitted(member.compressedSize)
        let offset = fitted(member.offset)
        var out = ByteRecord()
        out.u32(0x0201_4B50)
        out.u16(3 << 8 | 45)  // made on Unix, ZIP 4.5
        appendCommon(member, size: size, compressedSize: compressedSize, to: &out)
        out.u16(wide.bytes.isEmpty ? 0 : 4 + wide.bytes.count)
        out.u16(0)  // comment
        out.u16(0)  // disk
        out.u16(0)  // internal attributes
        out.u32(0o600 << 16)  // permissions
        out.u32(offset)
        out.bytes += member.name.utf8
        if !wide.bytes.isEmpty {
            out.u16(1)
            out.u16(wide.bytes.count)
            out.bytes += wide.bytes
        }
        return out.bytes
    }

    private func appendCommon(
        _ member: Member, size: UInt32, compressedSize: UInt32, to out: inout ByteRecord
    ) {
        out.u16(45)  // needs ZIP 4.5
        out.u16(0)  // flags
        out.u16(8)  // deflated
        out.u16(0)  // 00:00
        out.u16(0x21)  // 1980-01-01: equal runs give equal bytes
        out.u32(member.crc)
        out.u32(compressedSize)
        out.u32(size)
        out.u16(member.name.utf8.count)
    }

    private func endRecords(directoryOffset: Int, directorySize: Int) -> [UInt8] {
        var out = ByteRecord()
        let needs64 = directoryOffset >= Int(UInt32.max)
        if needs64 {
            out.u32(0x0606_4B50)
            out.u64(44)
            out.u16(3 << 8 | 45)
            out.u16(45)
            out.u32(0)
            out.u32(0)
            out.u64(directory.count)
            out.u64(directory.count)
            out.u64(directorySize)
            out.u64(directoryOffset)
            out.u32(0x0706_4B50)
            out.u32(0)
            out.u64(directoryOffset + directorySize)
            out.u32(1)
        }
        out.u32(0x0605_4B50)
        out.u16(0)
        out.u16(0)
        out.u16(directory.count)
        out.u16(directory.count)
        out.u32(UInt32(directorySize))
        out.u32(needs64 ? .max : UInt32(directoryOffset))
        out.u16(0)
        return out.bytes
    }
}

/// Builds a record of little-endian fields without padding.
struct ByteRecord {
    var bytes: [UInt8] = []

    mutating func u16(_ value: Int) { append(UInt16(value)) }
    mutating func u32(_ value: UInt32) { append(value) }
    mutating func u64(_ value: Int) { append(UInt64(value)) }

    mutating func append(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
    }
}
