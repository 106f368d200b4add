// Splits a corpus file into records: one JSON object per line, or the elements of one JSON array.

import ByteJSON
import Files
import Glibc

/// Reads the records of a corpus file one after the other. A record is the bytes of one line or of one array element.
final class RecordReader {
    /// The maximum length of a record, 256 MiB. Without a limit, one endless record could fill the memory.
    static let maximumRecord = 1 << 28

    private let path: String
    private let source: ByteSource
    private var buffer: [UInt8] = Array(repeating: 0, count: 1 << 18)
    private var filled = 0
    private var position = 0
    private var isAtEnd = false
    /// The number of the line with the byte at `position`, from 1.
    private var line = 1
    private var isArray = false
    /// Whether the array's opening bracket has not been read yet.
    private var isAtFront = true
    /// Whether the current record is the first of the file.
    private var isFirst = true
    private var endsWithNewline = true

    /// The number of lines of the file. It is correct only after `next` has returned false.
    var lineCount: Int { line - (endsWithNewline ? 1 : 0) }

    /// Opens the file at `path`, which is one JSON array if it begins with `[`, otherwise JSONL. Throws `FileError`
    /// if the file cannot be read, and `CorpusError` if it is binary or cannot be decompressed.
    init(path: String, window: CompressionWindow) throws {
        self.path = path
        source = try ByteSource(path: path, window: window)
        while filled < 3, try fill() {}
        if buffer[..<filled].starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }  // byte order mark
        switch try nextVisibleByte() {
        case UInt8(ascii: "["): isArray = true
        case UInt8(ascii: "{"), nil: break
        default: try checkKind()
        }
    }

    /// Throws if the file is binary. Without this check, up to 256 MiB of a binary file would be read as one line.
    private func checkKind() throws {
        while filled - position < FileKind.head, try fill() {}
        let kind = buffer.withUnsafeBytes {
            FileKind(UnsafeRawBufferPointer(rebasing: $0[position..<filled]))
        }
        guard let kind, kind.isBinary, let reason = kind.reason(within: source.compression) else {
            return
        }
        throw CorpusError.badFile(path: path, line: line, reason: reason)
    }

    /// Returns the facts for the error message about `record`. Call this function only in the `body` of `next`, with
    /// the record that `body` received.
    func diagnosis(
        of record: UnsafeBufferPointer<UInt8>, _ line: Int, _ selection: Selection
    ) -> RecordDiagnosis {
        RecordDiagnosis(
            selection: selection, path: path, line: line, record: record,
            rest: UnsafeRawBufferPointer(start: record.baseAddress, count: filled - position),
            isFirst: isFirst, isInArray: isArray, compression: source.compression,
            goesOn: !isAtEnd || endsWithNewline)
    }

    /// Calls `body` with the next record and the line on which it begins. Returns false if no record is left.
    func next(
        _ body: (_ record: UnsafeBufferPointer<UInt8>, _ line: Int) throws -> Void
    ) throws -> Bool {
        guard let record = isArray ? try nextElement() : try nextLine() else { return false }
        let recordLine = line
        try buffer.withUnsafeBufferPointer {
            try body(UnsafeBufferPointer(rebasing: $0[record]), recordLine)
        }
        isFirst = false
        pass(to: record.upperBound)
        return true
    }

    // MARK: Lines

    private func nextLine() throws -> Range<Int>? {
        // Only \n ends a line. A \r before the \n is JSON white space. Blank lines are not records.
        guard try nextVisibleByte() != nil else { return nil }
        var end = position
        while true {
            let found = buffer.withUnsafeBytes { bytes -> Int? in
                guard let base = bytes.baseAddress,
                    let newline = memchr(base + end, 0x0A, filled - end)
                else { return nil }
                return UnsafeRawPointer(newline) - base
            }
            if let found { return position..<found }
            let searched = filled - position
            guard try fill() else { return position..<filled }
            end = position + searched
        }
    }

    // MARK: Array elements

    private func nextElement() throws -> Range<Int>? {
        guard let byte = try nextVisibleByte() else {
            throw badArray("does not end with ], so the file is probably cut short")
        }
        if isAtFront {
            pass(to: position + 1)  // the opening bracket
            isAtFront = false
            if try nextVisibleByte() == UInt8(ascii: "]") { return try endOfArray() }
        } else if byte == UInt8(ascii: "]") {
            return try endOfArray()
        } else if byte == UInt8(ascii: ",") {
            pass(to: position + 1)
        } else {
            throw badArray("lacks a comma or the closing ] after a record")
        }
        guard try nextVisibleByte() != nil else {
            throw badArray("does not end with ], so the file is probably cut short")
        }
        return try extent()
    }

    private func endOfArray() throws -> Range<Int>? {
        pass(to: position + 1)
        guard try nextVisibleByte() == nil else {
            throw badArray("is followed by other text")
        }
        return nil
    }

    /// Returns the range of the JSON value at `position`. An object or array ends with its closing bracket, any other
    /// value before the next comma or closing bracket.
    private func extent() throws -> Range<Int> {
        var scan = ExtentScan()
        while true {
            let end = buffer.withUnsafeBufferPointer {
                scan.end(in: UnsafeBufferPointer(rebasing: $0[position..<filled]))
            }
            if let end { return position..<position + end }
            guard try fill() else {
                throw badArray("does not end with ], so the file is probably cut short")
            }
        }
    }

    // MARK: Bytes

    /// Skips white space. Returns the next byte without consuming it; nil at the end of the file.
    private func nextVisibleByte() throws -> UInt8? {
        while true {
            while position < filled {
                switch buffer[position] {
                case 0x0A:
                    line += 1
                    position += 1
                case 0x20, 0x0D, 0x09: position += 1
                default: return buffer[position]
                }
            }
            guard try fill() else { return nil }
        }
    }

    private func pass(to end: Int) {
        if isArray {
            for byte in buffer[position..<end] where byte == 0x0A { line += 1 }
        }
        position = end
    }

    /// Moves the unread bytes to the front of the buffer, and reads more bytes behind them. Returns false at the end
    /// of the file.
    private func fill() throws -> Bool {
        if isAtEnd { return false }
        if position > 0 {
            buffer.withUnsafeMutableBytes { bytes in
                let unread = UnsafeRawBufferPointer(rebasing: bytes[position..<filled])
                bytes.copyMemory(from: unread)
            }
            (position, filled) = (0, filled - position)
        }
        if filled == buffer.count {
            guard buffer.count < RecordReader.maximumRecord else {
                let isZero = buffer.withUnsafeBytes { FileKind($0) } == .zeros
                throw bad(
                    "a record is longer than \(RecordReader.maximumRecord) bytes\(isZero ? ", and begins with NUL bytes, as after a crash" : "")"
                )
            }
            buffer += Array(repeating: 0, count: buffer.count)
        }
        let count = try buffer.withUnsafeMutableBytes {
            try source.read(into: UnsafeMutableRawBufferPointer(rebasing: $0[filled...]))
        }
        filled += count
        if count > 0 { endsWithNewline = buffer[filled - 1] == 0x0A }
        isAtEnd = count == 0
        return count > 0
    }

    private func bad(_ reason: String) -> CorpusError {
        .badRecord(path: path, line: line, reason: reason)
    }

    private func badArray(_ reason: String) -> CorpusError {
        .badFile(
            path: path, line: line,
            reason: "the JSON array \(reason); download or export the file again, or correct it")
    }
}

/// Finds the end of a JSON value by counting brackets, without parsing the value. If `end` returns nil, call it again
/// with a longer text: the scan continues where it stopped.
private struct ExtentScan {
    private var offset = 0
    private var depth = 0
    private var isInString = false
    private var isEscaped = false

    /// Returns the offset just after the value at the front of `text`; nil if the value does not end in `text`.
    mutating func end(in text: UnsafeBufferPointer<UInt8>) -> Int? {
        while offset < text.count {
            let byte = text[offset]
            if isEscaped {
                isEscaped = false
            } else if isInString {
                isEscaped = byte == UInt8(ascii: "\\")
                isInString = byte != UInt8(ascii: "\"")
            } else {
                switch byte {
                case UInt8(ascii: "\""): isInString = true
                case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
                case UInt8(ascii: "}"), UInt8(ascii: "]"):
                    if depth == 0 { return offset }
                    depth -= 1
                    if depth == 0 { return offset + 1 }
                case UInt8(ascii: ",") where depth == 0: return offset
                default: break
                }
            }
            offset += 1
        }
        return nil
    }
}
