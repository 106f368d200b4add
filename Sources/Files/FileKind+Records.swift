// Recognises binary formats that have no magic number, by the lengths in their first bytes, which must fit together.
// Formats: msgpack.org (spec.md), bsonspec.org, tensorflow/core/lib/io/record_writer.h.

extension FileKind {
    /// Returns the kind of a file of records that begins with `head`. Nil if the format is not recognised.
    static func ofRecords(_ head: [UInt8]) -> FileKind? {
        if isTFRecord(head) { return .other("TFRecord") }
        if isBSON(head) { return .other("BSON") }
        return isMessagePack(head) ? .other("MessagePack") : nil
    }

    /// Whether `head` begins like a TFRecord file: a length of eight bytes, then the checksum of these eight bytes.
    private static func isTFRecord(_ head: [UInt8]) -> Bool {
        guard head.count > 12 else { return false }
        // CRC-32C (Castagnoli). TFRecord stores it rotated right by 15 bits, plus a constant.
        var crc = UInt32.max
        for byte in head[..<8] {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
        }
        crc = ~crc
        return number(head, at: 8) == Int((crc >> 15 | crc << 17) &+ 0xA282_EAD8)
    }

    /// Whether `head` begins like a BSON document: its length, then type and name of its first element. If `head`
    /// holds the whole document, the document's last byte must be zero.
    private static func isBSON(_ head: [UInt8]) -> Bool {
        guard head.count >= 8, (1...0x13).contains(head[4]) else { return false }
        let size = number(head, at: 0)
        guard size >= 8, size <= 1 << 24, let end = head[5...].firstIndex(of: 0) else {
            return false
        }
        return isName(head[5..<end]) && (size > head.count || head[size - 1] == 0)
    }

    /// Whether `head` begins like MessagePack: a map whose first key is a string of at most 31 bytes.
    private static func isMessagePack(_ head: [UInt8]) -> Bool {
        // The index of the first key: 1 for a map of up to 15 keys, 3 for a larger map. 0 if `head` does not begin
        // with a map.
        let first = head.first.map { $0 & 0xF0 == 0x80 && $0 > 0x80 ? 1 : $0 == 0xDE ? 3 : 0 } ?? 0
        guard first > 0, head.count > first, (0xA1...0xBF).contains(head[first]) else {
            return false
        }
        let length = Int(head[first] & 0x1F)
        return head.count > first + 1 + length && isName(head[first + 1..<first + 1 + length])
    }

    private static func isName(_ bytes: ArraySlice<UInt8>) -> Bool {
        !bytes.isEmpty && bytes.allSatisfy { (0x20..<0x7F).contains($0) }
    }

    /// Returns the four bytes at offset `place` as a little-endian number.
    private static func number(_ bytes: [UInt8], at place: Int) -> Int {
        (0..<4).reduce(0) { $0 | Int(bytes[place + $1]) << (8 * $1) }
    }
}
