// Makes the report: one HTML file that contains markup, style, script and data, and loads no other file.

import ByteJSON
import CReport
import Files
import FoundationEssentials

/// The page of a report.
package enum ReportPage {
    /// Returns the page that shows `data`, as UTF-8.
    package static func html(_ data: JSONObject, title: String) -> [UInt8] {
        var json: [UInt8] = []
        JSONText.append(compact: .object(data), to: &json)
        var page: [UInt8] = []
        // A placeholder in page.html is a name between two @ characters, such as @TITLE@. All are replaced in one
        // pass, because the inserted content may look like a placeholder.
        let parts: [String: [UInt8]] = [
            "TITLE": titleText(title), "CSS": embedded(creport_css()),
            "JS": embedded(creport_js()), "DATA": withoutTags(json),
        ]
        var rest = embedded(creport_html())[...]
        while let start = rest.firstIndex(of: UInt8(ascii: "@")) {
            page += rest[..<start]
            rest = rest[(start + 1)...]
            if let end = rest.firstIndex(of: UInt8(ascii: "@")),
                let part = parts[String(decoding: rest[..<end], as: UTF8.self)]
            {
                page += part
                rest = rest[(end + 1)...]
            } else {
                page.append(UInt8(ascii: "@"))
            }
        }
        return page + rest
    }

    /// Returns `json` with each `<` replaced by `\u003c`, so that no string can end the HTML element with the data.
    /// In JSON, `<` occurs only in strings, where the escape means the same.
    private static func withoutTags(_ json: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(json.count + json.count / 16)
        for byte in json {
            if byte == UInt8(ascii: "<") {
                out += Array("\\u003c".utf8)
            } else {
                out.append(byte)
            }
        }
        return out
    }

    /// Returns `text` escaped for the `title` element, on one line: each unprintable character becomes a space.
    private static func titleText(_ text: String) -> [UInt8] {
        var out: [UInt8] = []
        for byte in escapingUnprintable(text, { _ in " " }).utf8 {
            switch byte {
            case UInt8(ascii: "&"): out += Array("&amp;".utf8)
            case UInt8(ascii: "<"): out += Array("&lt;".utf8)
            default: out.append(byte)
            }
        }
        return out
    }
}

/// Returns the bytes of a file that is embedded in the program.
func embedded(_ file: creport_file) -> [UInt8] {
    Array(UnsafeBufferPointer(start: file.start, count: file.size))
}
