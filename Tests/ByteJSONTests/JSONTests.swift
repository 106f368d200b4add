// Tests that the JSON reader and writer follow Python's rules.

import Testing

@testable import ByteJSON

struct JSONTests {
    private func parse(_ text: String) throws(JSONSyntaxError) -> JSONValue {
        let bytes = Array(text.utf8)
        return try bytes.withUnsafeBufferPointer { (bytes) throws(JSONSyntaxError) in
            try JSONValue(parsing: bytes)
        }
    }

    @Test func readsEveryKindOfValue() throws {
        let value = try parse(
            #" {"a": [1, -2.5e3, true, false, null], "b": {"c": "x\u00e9\ud83d\ude00\n"}} "#)
        let expected: JSONObject = [
            "a": .array([.integer(1), .number(-2500), .bool(true), .bool(false), .null]),
            "b": .object(["c": .string("xé😀\n")]),
        ]
        #expect(value == .object(expected))
    }

    @Test func acceptsWhatPythonAccepts() throws {
        #expect(
            try parse("[Infinity, -Infinity]") == .array([.number(.infinity), .number(-.infinity)]))
        #expect(try parse("[NaN]").array?.first?.number?.isNaN == true)
        #expect(try parse(#"{"a": 1, "a": 2}"#).object?["a"] == .integer(2))
        #expect(
            try parse("123456789012345678901234567890").number
                == 1.234_567_890_123_456_8e29)
    }

    /// Checks strings of 0 to 39 characters. The parser reads eight bytes at a time, so the end of a string, or an
    /// invalid byte, must be found at each of the eight places.
    @Test func stringsEndWhereverTheyDo() throws {
        for length in 0..<40 {
            for filler in ["a", " ", "~", "\u{7F}", "é", "\u{1F600}"] {
                let text = String(repeating: filler, count: length)
                #expect(try parse("[\"\(text)\",1]") == .array([.string(text), .integer(1)]))
                #expect(try parse("\"\(text)\\n\(text)\"") == .string(text + "\n" + text))
                for control in ["\u{0}", "\n", "\u{1F}"] {
                    let error = #expect(throws: JSONSyntaxError.self) {
                        try parse("\"\(text)\(control)abcdefgh\"")
                    }
                    #expect(error?.offset == 1 + text.utf8.count)
                }
            }
        }
    }

    @Test func keepsCanonicallyEquivalentKeysApart() throws {
        let object = try #require(
            try parse("{\"\u{E9}\": 1, \"e\u{301}\": 2, \"\u{C5}\": 3, \"\u{212B}\": 4}").object)
        #expect(object.members.count == 4)
        #expect(object["\u{E9}"] == .integer(1))
        #expect(object["e\u{301}"] == .integer(2))
        #expect(object["\u{212B}"] == .integer(4))
        #expect(Set(object.members.map { ExactString($0.key) }).count == 4)
    }

    @Test(arguments: [
        ("", 0), ("{", 1), ("[1,]", 3), ("[1 2]", 3), (#"{"a" 1}"#, 5), (#"{a: 1}"#, 1), ("01", 0),
        ("1.", 2), ("1e", 2), ("-", 0), ("+1", 0), ("\"\u{1}\"", 1), (#""\x""#, 2),
        (#""\u12g4""#, 5),
        (#""abc"#, 4), ("nul", 0), ("[] []", 3), (#"{"a": }"#, 6), ("{\"a\":1,}", 7),
    ])
    func refusesWithThePlace(text: String, offset: Int) {
        let error = #expect(throws: JSONSyntaxError.self) { try parse(text) }
        #expect(error?.offset == offset, "\(String(describing: error))")
        // `skipValue` must refuse the same texts as the parser.
        let bytes = Array(text.utf8)
        bytes.withUnsafeBufferPointer { bytes in
            _ = #expect(throws: JSONSyntaxError.self) {
                var scanner = JSONScanner(bytes)
                try scanner.skipValue()
                try scanner.expectEnd()
            }
        }
    }

    @Test func refusesDepthWithoutRecursing() {
        for opener in ["[", #"{"a":"#] {
            let text = String(repeating: opener, count: 300_000)
            let error = #expect(throws: JSONSyntaxError.self) { try parse(text) }
            #expect(error?.reason.contains("256") == true)
            let bytes = Array(text.utf8)
            bytes.withUnsafeBufferPointer { bytes in
                _ = #expect(throws: JSONSyntaxError.self) {
                    var scanner = JSONScanner(bytes)
                    try scanner.skipValue()
                }
            }
        }
    }

    @Test func loneSurrogatesAreNotUnicode() throws {
        for text in [#""\ud83d""#, #""\ude00""#, #""\ud83d\u0041""#, #""\ud83dx""#] {
            #expect(throws: JSONSyntaxError.self) { try parse(text) }
            // `skipValue` accepts lone surrogates, because the value is not used.
            let bytes = Array(text.utf8)
            try bytes.withUnsafeBufferPointer { bytes in
                var scanner = JSONScanner(bytes)
                try scanner.skipValue()
                try scanner.expectEnd()
            }
        }
    }

    @Test func writesAsPythonDoes() throws {
        var out: [UInt8] = []
        let value = JSONValue.object([
            "a": .array([.integer(1), .string("x")]), "empty": .array([]), "none": .object([:]),
        ])
        JSONText.append(value, to: &out)
        // The output of Python's json.dumps({"a": [1, "x"], "empty": [], "none": {}}, indent=4).
        let expected = """
            {
                "a": [
                    1,
                    "x"
                ],
                "empty": [],
                "none": {}
            }
            """
        #expect(String(decoding: out, as: UTF8.self) == expected)
    }

    @Test func escapesAsPythonDoes() {
        var out: [UInt8] = []
        JSONText.append(string: "\"\\/\n\r\t\u{8}\u{C}\u{1}\u{1F}\u{7F}\u{2028}é😀".utf8, to: &out)
        #expect(
            out.elementsEqual(
                "\"\\\"\\\\/\\n\\r\\t\\b\\f\\u0001\\u001f\u{7F}\u{2028}é😀\"".utf8))
    }
}
