// Makes the error message for a refused record: the problem, what was found, and the next step.

import ByteJSON
import Files

/// A refused record, with the facts about its file that the error message needs.
struct RecordDiagnosis {
    let selection: Selection
    let path: String
    let line: Int
    let record: UnsafeBufferPointer<UInt8>
    /// The bytes from the start of the record to the end of the bytes read so far.
    let rest: UnsafeRawBufferPointer
    /// Whether the record is the first of the file.
    let isFirst: Bool
    let isInArray: Bool
    /// The compression of the file; nil if the file is not compressed.
    let compression: FileKind?
    /// Whether the file continues after `rest`, or `rest` ends with a newline. If false, the record may be cut short.
    let goesOn: Bool

    /// Returns the error that explains `problem`.
    func error(_ problem: RecordProblem) -> CorpusError {
        otherKind ?? zeros ?? error(problem.cause)
    }

    private func error(_ cause: RecordProblem.Cause) -> CorpusError {
        switch cause {
        case .encoding(let offset):
            let byte = String(record[offset], radix: 16)
            return bad(
                "the record is not valid UTF-8 (byte 0x\(byte) at offset \(offset) of the record); if the file has another encoding, convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE"
            )
        case .syntax(let error, let isAfterValue):
            return syntax(error, isAfterValue: isAfterValue)
        case .notObject:
            let value = try? JSONValue(parsing: record)
            return bad(
                "not a JSON object\(value.map { ", but \($0.inWords)" } ?? ""); expected a record such as {\"\(selection.authorField)\": ..., \"\(selection.textField)\": ...}"
            )
        case .missing(let key): return missing(key)
        case .notString(let key): return notString(key)
        case .loneSurrogate(let key):
            return bad(
                "\"\(key)\" has a lone surrogate escape, such as \\ud800, which is not a character")
        }
    }

    // MARK: Other kinds of file

    /// The error if the file is not JSON, or if data of another kind begins at this record; otherwise nil.
    private var otherKind: CorpusError? {
        guard let kind = FileKind(rest) else { return nil }
        // In a JSON array, `rest` begins in the middle of the file, where a match with a text format, such as CSV,
        // proves nothing.
        if isInArray, kind.isText { return nil }
        if isFirst {
            // A JSON scalar, such as a number, may look like another kind of text. But then the record has the wrong
            // form, not the file.
            if case .text = kind, (try? JSONValue(parsing: record)) != nil { return nil }
            return kind.reason(within: compression).map(file)
        }
        switch kind {
        case .marked:
            return file(
                "a byte order mark is in the middle of the file, as if files that begin with one were joined; remove it: sed 's/^\\xEF\\xBB\\xBF//' FILE > NEW_FILE"
            )
        case .encoded(let name):
            return file(
                "from this line on, the file is \(name), not UTF-8; convert that part before you append it: iconv -f \(name) -t UTF-8 PART > NEW_PART"
            )
        case .compressed(_, let command):
            return file(
                "from this line on, the file is \(kind.name), as if a compressed file was appended; decompress that part before you append it: \(command)"
            )
        default: return nil
        }
    }

    /// The error if the record has NUL bytes, which JSON does not allow; otherwise nil.
    private var zeros: CorpusError? {
        let count = record.count { $0 == 0 }
        guard count > 0, let first = record.firstIndex(of: 0) else { return nil }
        return file(
            "\(counted(count, "NUL byte")) in the record (the first at offset \(first)), as after a crash or with a full disk; restore the file, or remove this line"
        )
    }

    // MARK: Invalid JSON

    private func syntax(_ error: JSONSyntaxError, isAfterValue: Bool) -> CorpusError {
        let found = "not a JSON record: \(error)"
        if isAfterValue { return afterValue(error, found) }
        let visible = record.filter { ![0x20, 0x09, 0x0D, 0x0A].contains($0) }.prefix(2)
        if visible.elementsEqual("{'".utf8) {
            return file(
                "\(found): it looks like a Python dict; write records with json.dumps")
        }
        guard error.offset >= record.count, !isInArray else { return bad(found) }
        let next = rest[record.count...].first { ![0x20, 0x09, 0x0D, 0x0A].contains($0) }
        if let next, next != UInt8(ascii: "{") {
            return file(
                "\(found): the record continues over several lines; write one record per line (jq -c . FILE > NEW_FILE), or all records in one JSON array"
            )
        }
        if next == nil, !goesOn { return bad("\(found): the file ends here and may be cut short") }
        return bad(found)
    }

    /// Returns the error for a line that has other bytes after a complete JSON value.
    private func afterValue(_ error: JSONSyntaxError, _ found: String) -> CorpusError {
        let before = record[..<min(error.offset, record.count)].last { $0 != 0x20 && $0 != 0x09 }
        if before == 0x0D {
            return file(
                "lines end in CR alone, as on old Macs; convert: tr '\\r' '\\n' < FILE > NEW_FILE")
        }
        switch error.offset < record.count ? record[error.offset] : nil {
        case UInt8(ascii: "{"):
            return file(
                "\(found): several records are on one line; write one record per line (jq -c . FILE > NEW_FILE), or all records in one JSON array"
            )
        case UInt8(ascii: ","):
            return file(
                "\(found): a comma follows the record; write one record per line without commas, or all records in one JSON array in [ ]"
            )
        default: return bad(found)
        }
    }

    // MARK: Valid JSON of another form

    private var object: JSONObject? { (try? JSONValue(parsing: record))?.object }

    /// Returns the flag that sets the name `key`: `--author_field` or `--text_field`.
    private func flag(_ key: String) -> String {
        key.utf8.elementsEqual(selection.authorField.utf8) ? "--author_field" : "--text_field"
    }

    private func missing(_ key: String) -> CorpusError {
        let found = "has no \"\(key)\""
        guard let object else { return bad(found) }
        for member in object.members {
            if let first = member.value.array?.first?.object, first[key] != nil {
                return file(
                    "\(found), but its list \"\(member.key)\" has records; write these, one per line: jq -c '\(path(member.key))[]' FILE > NEW_FILE"
                )
            }
        }
        if let place = nested(key, in: object) {
            return file(
                "\(found), but \(place.map { "\"\($0)\"" }.joined(separator: " holds ")): the program reads only keys at the top level of a record; copy the key there: jq -c '\(path(key)) = \(place.map(path).joined())' FILE > NEW_FILE"
            )
        }
        let keys = object.members.map(\.key)
        func folded(_ key: String) -> String {
            key.lowercased().filter { $0.isLetter || $0.isNumber }
        }
        if let near = keys.first(where: { folded($0) == folded(key) && !folded(key).isEmpty }) {
            return bad("\(found), but it has \"\(near)\"; give \(flag(key)) '\(near)'")
        }
        let shown = keys.prefix(8).map { "\"\($0.prefix(40))\"" }.joined(separator: ", ")
        return bad(
            keys.isEmpty
                ? "\(found): the object is empty"
                : "\(found); its keys are \(shown)\(keys.count > 8 ? ", ..." : ""); name the one to read with \(flag(key))"
        )
    }

    /// Returns the keys that lead to `key` in an inner object of the record, such as `["meta", "author"]`; nil if no
    /// inner object has it. A `key` with dots, such as `meta.author`, is first tried as a path.
    private func nested(_ key: String, in object: JSONObject) -> [String]? {
        let parts = key.split(separator: ".").map(String.init)
        var value: JSONValue? = .object(object)
        for part in parts { value = value?.object?[part] }
        if parts.count > 1, value != nil { return parts }
        return object.members.first { $0.value.object?[key] != nil }.map { [$0.key, key] }
    }

    private func notString(_ key: String) -> CorpusError {
        guard let object, let value = object[key] else { return bad("\"\(key)\" is not a string") }
        let keys = [selection.authorField, selection.textField]
        let isOfColumns =
            keys.allSatisfy { object[$0]?.array != nil }
            || keys.allSatisfy { object[$0]?.object != nil }
        if isOfColumns {
            return file(
                "\"\(keys[0])\" and \"\(keys[1])\" are \(value.array == nil ? "objects" : "lists"): the file stores columns, expected one record for each document; with pandas, use to_json(FILE, orient='records', lines=True)"
            )
        }
        switch value {
        case .integer(let number):
            return bad("\"\(key)\" is \(value.inWords): give a string, \"\(number)\"")
        default: return bad("\"\(key)\" is \(value.inWords): give a string")
        }
    }

    /// Returns `key` as a path of jq, such as `.author` or `."my key"`.
    private func path(_ key: String) -> String {
        let isPlain = key.utf8.allSatisfy {
            (0x61...0x7A).contains($0 | 0x20) || (0x30...0x39).contains($0) || $0 == 0x5F
        }
        guard !isPlain || key.isEmpty || key.first!.isNumber else { return ".\(key)" }
        var text: [UInt8] = []
        JSONText.append(string: key.utf8, to: &text)
        return "." + String(decoding: text, as: UTF8.self)
    }

    private func bad(_ reason: String) -> CorpusError {
        .badRecord(path: path, line: line, reason: reason)
    }

    private func file(_ reason: String) -> CorpusError {
        .badFile(path: path, line: line, reason: reason)
    }
}

extension FileKind {
    /// Returns why a corpus of this kind is refused; nil if it is not. `outer` is the file's compression; nil if it
    /// has none.
    func reason(within outer: FileKind?) -> String? {
        guard case .compressed(let name, let command) = outer else {
            return sentence(insteadOf: .records)
        }
        if case .compressed(let inner, _) = self {
            return
                "is compressed twice, with \(name) and within that with \(inner); remove the outer compression: \(command)"
        }
        return sentence(insteadOf: .records).map { "decompressed, it \($0)" }
    }
}
