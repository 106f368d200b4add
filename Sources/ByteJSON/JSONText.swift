// Writes JSON byte for byte as Python's `json.dump(…, ensure_ascii=False, indent=4)` does.

/// Writes JSON in Python's layout or without white space. Python's layout has four spaces for each level, `": "`
/// after a key, and no final newline.
public enum JSONText {
    /// Appends `utf8` as a JSON string. Escapes `"`, `\` and bytes below 0x20; all other bytes are unchanged.
    public static func append(string utf8: some Sequence<UInt8>, to out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        for byte in utf8 {
            switch byte {
            case UInt8(ascii: "\""): out += [UInt8(ascii: "\\"), UInt8(ascii: "\"")]
            case UInt8(ascii: "\\"): out += [UInt8(ascii: "\\"), UInt8(ascii: "\\")]
            case 0x0A: out += [UInt8(ascii: "\\"), UInt8(ascii: "n")]
            case 0x0D: out += [UInt8(ascii: "\\"), UInt8(ascii: "r")]
            case 0x09: out += [UInt8(ascii: "\\"), UInt8(ascii: "t")]
            case 0x08: out += [UInt8(ascii: "\\"), UInt8(ascii: "b")]
            case 0x0C: out += [UInt8(ascii: "\\"), UInt8(ascii: "f")]
            case 0..<0x20:
                let digits = Array("0123456789abcdef".utf8)
                out += Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            default: out.append(byte)
            }
        }
        out.append(UInt8(ascii: "\""))
    }

    /// Appends a newline and the indentation for `level`: four spaces for each level.
    public static func appendBreak(level: Int, to out: inout [UInt8]) {
        out.append(0x0A)
        out.append(contentsOf: repeatElement(0x20, count: 4 * level))
    }

    /// Appends `value` in Python's layout. `level` is the indentation level of the value's brackets. With
    /// `compactScalars`, writes an array on one line if it contains no arrays or objects.
    public static func append(
        _ value: JSONValue, level: Int = 0, compactScalars: Bool = false, to out: inout [UInt8]
    ) {
        switch value {
        case .null: out += Array("null".utf8)
        case .bool(let b): out += Array((b ? "true" : "false").utf8)
        case .integer(let i): out += Array(String(i).utf8)
        case .number(let d): out += Array(number(d).utf8)
        case .string(let s): append(string: s.utf8, to: &out)
        case .array(let elements):
            let oneLine =
                compactScalars && elements.allSatisfy { $0.array == nil && $0.object == nil }
            appendContainer("[", "]", elements, level: level, oneLine: oneLine, to: &out) {
                append($0, level: level + 1, compactScalars: compactScalars, to: &$1)
            }
        case .object(let object):
            appendContainer("{", "}", object.members, level: level, oneLine: false, to: &out) {
                append(string: $0.key.utf8, to: &$1)
                $1 += Array(": ".utf8)
                append($0.value, level: level + 1, compactScalars: compactScalars, to: &$1)
            }
        }
    }

    /// Appends `value` without white space, as standard JSON. NaN and infinities become null.
    public static func append(compact value: JSONValue, to out: inout [UInt8]) {
        switch value {
        case .number(let d) where !d.isFinite: out += Array("null".utf8)
        case .array(let elements):
            out.append(UInt8(ascii: "["))
            for (i, element) in elements.enumerated() {
                if i > 0 { out.append(UInt8(ascii: ",")) }
                append(compact: element, to: &out)
            }
            out.append(UInt8(ascii: "]"))
        case .object(let object):
            out.append(UInt8(ascii: "{"))
            for (i, member) in object.members.enumerated() {
                if i > 0 { out.append(UInt8(ascii: ",")) }
                append(string: member.key.utf8, to: &out)
                out.append(UInt8(ascii: ":"))
                append(compact: member.value, to: &out)
            }
            out.append(UInt8(ascii: "}"))
        default: append(value, to: &out)
        }
    }

    private static func appendContainer<Element>(
        _ open: Unicode.Scalar, _ close: Unicode.Scalar, _ elements: [Element], level: Int,
        oneLine: Bool, to out: inout [UInt8], _ appendElement: (Element, inout [UInt8]) -> Void
    ) {
        out.append(UInt8(ascii: open))
        for (i, element) in elements.enumerated() {
            if i > 0 { out.append(UInt8(ascii: ",")) }
            if !oneLine {
                appendBreak(level: level + 1, to: &out)
            } else if i > 0 {
                out.append(0x20)
            }
            appendElement(element, &out)
        }
        if !elements.isEmpty, !oneLine { appendBreak(level: level, to: &out) }
        out.append(UInt8(ascii: close))
    }

    /// Returns a floating-point number as Python writes it.
    private static func number(_ d: Double) -> String {
        if d.isNaN { return "NaN" }
        if d.isInfinite { return d < 0 ? "-Infinity" : "Infinity" }
        return "\(d)"
    }
}
