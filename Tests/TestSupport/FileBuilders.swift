// Builders of small files in the formats that the program reads. A test can also build invalid files.

import ArrayFiles
import ByteJSON
import Files
import Foundation

/// Reads the JSON file at `path`, applies `change` to its top-level object and returns the new file's bytes.
package func changedJSON(_ path: String, _ change: (inout JSONObject) -> Void) throws -> [UInt8] {
    let value = try TestData.bytes(path).withUnsafeBufferPointer { try JSONValue(parsing: $0) }
    var object = value.object ?? JSONObject()
    change(&object)
    var bytes: [UInt8] = []
    JSONText.append(.object(object), to: &bytes)
    return bytes
}

/// Builds safetensors files.
package struct SafetensorsBuilder {
    /// A tensor of the file: its header entry and its data.
    package struct Entry {
        /// The tensor's name.
        package var name: String
        /// The type of the elements, by its name in safetensors, such as `F32`.
        package var dtype: String
        /// The sizes of the dimensions, outermost first.
        package var shape: [Int]
        /// The bytes of the elements, little-endian.
        package var data: [UInt8]
    }

    /// The tensors, in file order.
    package var entries: [Entry] = []

    /// Creates a builder without tensors.
    package init() {}

    /// Creates a builder with the tensors of the file at `path`.
    package init(copyOf path: String) throws {
        let file = try SafetensorsFile(path: path)
        let data = file.file.bytes[(8 + file.headerLength)...]
        entries = file.entries.map { entry in
            let start = data.startIndex + entry.begin
            return Entry(
                name: entry.name, dtype: entry.dtype, shape: entry.shape,
                data: Array(data[start..<data.startIndex + entry.end]))
        }
    }

    /// Adds a float32 tensor with the elements `values` in C order.
    package mutating func add(_ name: String, _ shape: [Int], _ values: [Float]) {
        add(name, "F32", shape, values.flatMap { withUnsafeBytes(of: $0, Array.init) })
    }

    /// Adds a tensor of type `dtype` with the bytes `data`.
    package mutating func add(_ name: String, _ dtype: String, _ shape: [Int], _ data: [UInt8]) {
        entries.append(Entry(name: name, dtype: dtype, shape: shape, data: data))
    }

    /// The JSON header for `entries`. The data offsets follow the order of the entries, without gaps.
    package var header: String {
        var offset = 0
        let parts = entries.map { entry in
            defer { offset += entry.data.count }
            return "\"\(entry.name)\":{\"dtype\":\"\(entry.dtype)\",\"shape\":\(entry.shape),"
                + "\"data_offsets\":[\(offset),\(offset + entry.data.count)]}"
        }
        return "{" + parts.joined(separator: ",") + "}"
    }

    /// Returns the file's bytes. If `header` is given, it replaces the computed JSON header.
    package func bytes(header: String? = nil) -> [UInt8] {
        let text = Array((header ?? self.header).utf8)
        return withUnsafeBytes(of: UInt64(text.count).littleEndian, Array.init) + text
            + entries.flatMap(\.data)
    }
}

/// Builds ZIP archives whose members are not compressed.
package struct ZipBuilder {
    private var body: [UInt8] = []
    private var directory: [UInt8] = []
    private var count = 0

    /// Creates a builder of an empty archive.
    package init() {}

    /// Adds a member with the bytes `data`. A test may state a wrong `crc`, `method` or uncompressed `size`.
    package mutating func add(
        _ name: String, _ data: [UInt8], crc: UInt32, method: UInt16 = 0, size: UInt32? = nil
    ) {
        let sizes = little(size ?? UInt32(data.count))
        let common =
            little(UInt16(20)) + little(UInt16(0)) + little(method) + little(UInt32(0x21_0000))
            + little(crc) + little(UInt32(data.count)) + sizes + little(UInt16(name.utf8.count))
        directory += little(UInt32(0x0201_4B50)) + little(UInt16(20)) + common
        directory +=
            [UInt8](repeating: 0, count: 12) + little(UInt32(body.count)) + Array(name.utf8)
        body += little(UInt32(0x0403_4B50)) + common + little(UInt16(0)) + Array(name.utf8) + data
        count += 1
    }

    /// The bytes of the whole archive.
    package var bytes: [UInt8] {
        body + directory + little(UInt32(0x0605_4B50)) + [0, 0, 0, 0] + little(UInt16(count))
            + little(UInt16(count)) + little(UInt32(directory.count)) + little(UInt32(body.count))
            + [0, 0]
    }

    private func little(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian, Array.init)
    }
}
