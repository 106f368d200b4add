// Tests of known, refused and unknown keys. Unknown keys are listed.

import ByteJSON
import Testing

struct KnownNamesTests {
    private let keys = KnownNames(
        used: ["size"], harmless: ["author"],
        changing: ["bias": [.bool(false), .null], "factor": [1], "head": []])

    private func unknown(_ object: JSONObject, _ place: String = "") throws -> [String] {
        var unknown = UnknownNames()
        try keys.check(object, place: place, unknown: &unknown)
        return unknown.names
    }

    @Test func whatChangesNothingPasses() throws {
        #expect(
            try unknown(["size": "any", "author": 3, "bias": .null, "factor": .number(1.0)]) == [])
        #expect(try unknown(["bias": .bool(false)]) == [])
        #expect(try unknown([:]) == [])
    }

    @Test func whatChangesNumbersIsRefusedWithItsValue() {
        for (object, reason) in [
            (["bias": .bool(true)], "top.bias is true, expected false or null"),
            (["factor": .number(1.5)], "top.factor is 1.5, expected 1"),
            (["factor": "1"], "top.factor is \"1\", expected 1"),
            (["head": .null], "top.head is null, which this program does not support"),
            // If a key occurs twice, the last value counts, as in Python.
            (
                JSONObject([("bias", .null), ("bias", .integer(0))]),
                "top.bias is 0, expected false or null"
            ),
        ] as [(JSONObject, String)] {
            let problem = #expect(throws: KeyProblem.self) { try unknown(object, "top.") }
            #expect(problem?.reason == reason)
        }
    }

    @Test func whatIsNotKnownIsNamedOnce() throws {
        // U+212A (the kelvin sign) is not the letter K, although Swift treats the two strings as equal.
        let object = JSONObject([
            ("b", 1), ("size", 2), ("a", 3), ("b", 4), ("\u{212A}", 5), ("Size", 6),
        ])
        #expect(KnownNames(used: ["K"]).meaning(of: "\u{212A}") == nil)
        #expect(try unknown(object) == ["b", "a", "\u{212A}", "Size"])
        var names = UnknownNames()
        #expect(names.warning("f.json", "keys", limit: 2) == nil)
        for name in ["a", "b", String(repeating: "x", count: 1000)] { names.append(name) }
        let short = try #require(names.warning("f.json", "keys", limit: 2))
        #expect(short.hasPrefix("f.json: has keys that are not known"))
        #expect(short.contains(": a, b and 1 more;"))
        let long = try #require(names.warning("f.json", "keys", limit: 9))
        #expect(long.contains("xxx…;") && long.utf8.count < 400)
    }

    @Test func valuesAreShownShort() {
        #expect(JSONValue.string("a\"b").excerpt == "\"a\\\"b\"")
        #expect(JSONValue.object(["a": [1]]).excerpt == "{\"a\":[1]}")
        #expect(JSONValue.array(Array(repeating: .null, count: 300)).excerpt == "a list of 300")
        #expect(JSONValue.number(.nan).excerpt == "NaN")
        #expect(
            JSONValue.string(String(repeating: "é", count: 5000)).excerpt.utf8.count < 1000)
    }
}
