// Parses the author and the text of a corpus record.

import ByteJSON

/// The reason why a record was refused. `RecordDiagnosis` adds the file, the line and the next step.
struct RecordProblem: Error {
    enum Cause {
        /// The bytes at this offset are not valid UTF-8.
        case encoding(offset: Int)
        /// The record is not valid JSON. If `isAfterValue` is true, the error is in the bytes after a complete value.
        case syntax(JSONSyntaxError, isAfterValue: Bool)
        /// The record does not begin with `{`, so it is not a JSON object.
        case notObject
        /// The record has no such key.
        case missing(key: String)
        /// The value of the key is not a string.
        case notString(key: String)
        /// The string has one half of a surrogate pair, such as `\ud800`, which is not a character.
        case loneSurrogate(key: String)
    }

    let cause: Cause
}

/// Parses the author and the text of each record. One parser serves all records of a file, so its buffer is allocated
/// once.
struct RecordParser {
    private let selection: Selection
    private let authorKey: [UInt8]
    private let textKey: [UInt8]
    private var scratch: [UInt8] = []

    init(_ selection: Selection) {
        self.selection = selection
        (authorKey, textKey) = (Array(selection.authorField.utf8), Array(selection.textField.utf8))
    }

    /// Returns the author and the text of one record. The values of other keys must be valid JSON and are ignored.
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
            // If a key occurs twice, the last value counts.
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
        // The record itself is UTF-8, as `parse` has checked. So only an escape, such as \ud800, can make the string
        // invalid.
        return String(validating: scratch, as: UTF8.self).map(FieldValue.string) ?? .loneSurrogate
    }
}
