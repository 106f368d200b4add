// Fuzz target for JSON. If a value can be read, it can also be skipped, and it stays the same when written and read.

import ByteJSON
import TestSupport

/// Words of JSON, including the extensions of Python's json module.
let jsonWords = [
    "null", "true", "false", "NaN", "Infinity", "-Infinity", "\\u0000", "\\ud83d\\ude42", "\\ud800",
    "1e999", "-0.0", "9223372036854775808", "[[[[[[[[", "{\"a\":", "\u{FEFF}",
]

extension FuzzTarget {
    static let json = FuzzTarget("json", dictionary: jsonWords) {
        try ["model/config.json", "model/special_tokens_map.json", "model/tokenizer_config.json"]
            .map { try TestData.bytes("\(TestData.tiny)/\($0)") }
            + [#"[1, -2.5e-3, "a\n\u00e9\ud83d\ude42", {"a": {"a": []}}, NaN, null, true]"#.utf8]
            .map(Array.init)
    } body: { input in
        var scanner = JSONScanner(input)
        let isPassedOver = (try? scanner.skipValue()) != nil && scanner.atEnd()
        let value = try JSONValue(parsing: input)
        check(isPassedOver, "a value can be read but not skipped")
        for compact in [false, true] {
            var text: [UInt8] = []
            JSONText.append(value, compactScalars: compact, to: &text)
            let again = try! text.withUnsafeBufferPointer { try JSONValue(parsing: $0) }
            check(isSame(again, value), "writing and reading changes the value")
        }
        var text: [UInt8] = []
        JSONText.append(compact: value, to: &text)
        _ = try! text.withUnsafeBufferPointer { try JSONValue(parsing: $0) }
    }
}

/// Returns whether two values are the same. Here NaN equals NaN, but the number 1.0 does not equal the integer 1.
private func isSame(_ a: JSONValue, _ b: JSONValue) -> Bool {
    switch (a, b) {
    case (.number(let a), .number(let b)): a == b || a.isNaN && b.isNaN
    case (.array(let a), .array(let b)): a.count == b.count && zip(a, b).allSatisfy(isSame)
    case (.object(let a), .object(let b)):
        a.members.count == b.members.count
            && zip(a.members, b.members).allSatisfy {
                $0.key.utf8.elementsEqual($1.key.utf8) && isSame($0.value, $1.value)
            }
    case (.string(let a), .string(let b)): a.utf8.elementsEqual(b.utf8)
    default: a == b
    }
}
