// Parses a record's author and text.

import ByteJSON

/// The reason why a record was refused, without its surroundings in the file.
struct RecordProblem: Error {
    enum Cause {
        /// The bytes at this offset are not valid UTF-8.
        case encoding(offset: Int)
        /// Not JSON. With `isAfterValue`, something follows a complete value.
        case syntax(JSONSyntaxError, isAfterValue: Bool)
        /// JSON, but not an object.
        case notObject
        /// The key is missing.
        case missing(key: String)
        /// The value of the key is not a string.
        case notString(key: String)
        /// The string has a surrogate without its other half, which is not a character.
        case loneSurrogate(key: String)
    }

    let cause: Cause
}

/// Takes author and text out of records. One parser serves all records, so that its buffer is allocated once.
struct RecordParser {
    private let selection: Selection
    private let authorKey: [UInt8]
    private let textKey: [UInt8]
    private var scratch: [UInt8] = []

    init(_ selection: Selection) {
        self.selection = selection
        (authorKey, textKey) = (Array(selection.authorField.utf8), Array(selection.textField.utf8))
    }

    /// Returns the author and the text of one record. All other values are checked to be JSON and are ignored.
    mutating func parse(
        _ record: UnsafeBufferPointer<UInt8>
    ) throws(RecordProblem) -> (author: String, text: String) {
        if let offset = firstInvalidUTF8(record) {
            throw RecordProblem(cause: .encoding(offset: offset))
        }
        var author: FieldValue?
        var text: FieldValue?
        var scanner = JSONScanner(record)
        scratch.reserveCapacity(record.count)
        guard scanner.peek() == UInt8(ascii: "{") else { throw RecordProblem(cause: .notObject) }
        do {
            // The last of duplicate keys wins.
            try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
                if key == authorKey {
                    author = try readField(&scanner)
                } else if key == textKey {
                    text = try readField(&scanner)
                } else {
                    try scanner.skipValue()
                }
            }
        } catch {
            throw RecordProblem(cause: .syntax(error, isAfterValue: false))
        }
        do {
            try scanner.expectEnd()
        } catch {
            throw RecordProblem(cause: .syntax(error, isAfterValue: true))
        }
        func value(_ field: FieldValue?, _ key: String) throws(RecordProblem) -> String {
            switch field {
            case .string(let string): return string
            case .loneSurrogate: throw RecordProblem(cause: .loneSurrogate(key: key))
            case .other: throw RecordProblem(cause: .notString(key: key))
            case nil: throw RecordProblem(cause: .missing(key: key))
            }
        }
        return (
            try value(author, selection.authorField), try value(text, selection.textField)
        )
    }

    private enum FieldValue {
        case string(String)
        case loneSurrogate
        case other
    }

    private mutating func readField(
        _ scanner: inout JSONScanner
    ) throws(JSONSyntaxError) -> FieldValue {
        guard scanner.peek() == UInt8(ascii: "\"") else {
            try scanner.skipValue()
            return .other
        }
        try scanner.readString(into: &scratch)
        // The bytes of the record are UTF-8, so only an escape can have made the string invalid.
        return String(validating: scratch, as: UTF8.self).map(FieldValue.string) ?? .loneSurrogate
    }
}
