// The names in a file that its reader knows: keys of a JSON object, or tensors. A known name is used, or changes no number, or
// would change numbers. If a reader ignored names without this check, its numbers could silently be those of another model.

/// What a name in a file means for the computation.
public enum NameMeaning: Sendable {
    /// The reader reads it and checks its value.
    case used
    /// The name changes no number, whatever its value.
    case harmless
    /// The name would change numbers. Its key may be present with one of these values, which change no number.
    case changesNumbers(unless: [JSONValue] = [])
}

/// The names that a reader knows.
public struct KnownNames: Sendable {
    private var meanings: [ExactString: NameMeaning] = [:]

    /// Makes the three groups of names. `changing` gives, for each key, the values that change no number.
    public init(
        used: [String] = [], harmless: [String] = [], changing: [String: [JSONValue]] = [:]
    ) {
        for name in harmless { meanings[ExactString(name)] = .harmless }
        for name in used { meanings[ExactString(name)] = .used }
        for (name, values) in changing {
            meanings[ExactString(name)] = .changesNumbers(unless: values)
        }
    }

    /// Returns what `name` means. Nil if the reader does not know it.
    public func meaning(of name: String) -> NameMeaning? { meanings[ExactString(name)] }

    /// Checks every key of `object`. Appends unknown keys to `unknown`, with `place` before each. Throws `KeyProblem` for a key
    /// that would change numbers.
    public func check(
        _ object: JSONObject, place: String = "", unknown: inout UnknownNames
    ) throws(KeyProblem) {
        var last: [ExactString: JSONValue] = [:]
        // If a key occurs twice, the last value counts.
        for (key, value) in object.members { last[ExactString(key)] = value }
        for (key, _) in object.members {
            guard let value = last.removeValue(forKey: ExactString(key)) else { continue }
            switch meaning(of: key) {
            case .used, .harmless: break
            case .changesNumbers(let values):
                guard values.contains(where: { $0.isSame(as: value) }) else {
                    throw KeyProblem(key: place + key, found: value, expected: values)
                }
            case nil: unknown.append(place + key)
            }
        }
    }
}

/// A key whose value requires another computation.
public struct KeyProblem: Error {
    /// The key, after the keys above it.
    public let key: String
    /// The value that was found.
    public let found: JSONValue
    /// The values that this program computes with; empty if it computes with none.
    public let expected: [JSONValue]

    /// Makes a problem with `key`, which is given after the keys above it.
    public init(key: String, found: JSONValue, expected: [JSONValue]) {
        (self.key, self.found, self.expected) = (key, found, expected)
    }

    /// What is wrong: "attention_bias is true, expected false or null". With no expected value: "… which this program does not
    /// compute".
    public var reason: String {
        let values = expected.map(\.excerpt).joined(separator: " or ")
        return
            "\(key) is \(found.excerpt), \(expected.isEmpty ? "which this program does not compute" : "expected \(values)")"
    }
}

/// Names in a file that its reader does not know.
public struct UnknownNames: Sendable {
    /// The names, in the order of the file.
    public private(set) var names: [String] = []

    /// Makes an empty list.
    public init() {}

    /// Appends `name`.
    public mutating func append(_ name: String) { names.append(name) }

    /// Returns a sentence that names up to `limit` of the names. `path` is the file, `what` says what the names are ("keys"). Nil
    /// if the list is empty.
    public func warning(_ path: String, _ what: String, limit: Int) -> String? {
        guard !names.isEmpty else { return nil }
        let shown = names.prefix(limit).map { $0.count > 80 ? $0.prefix(80) + "…" : $0 }
        let rest = names.count > limit ? " and \(names.count - limit) more" : ""
        return
            "\(path): has \(what) that are not known and change nothing here: \(shown.joined(separator: ", "))\(rest); if one of them should change the results, the results do not include that change"
    }
}

extension JSONValue {
    /// The value for a message: itself if it is short, otherwise its kind.
    public var excerpt: String {
        switch self {
        case .array(let elements) where elements.count > 8: return "a list of \(elements.count)"
        case .object(let object) where object.members.count > 8:
            return "an object with \(object.members.count) keys"
        default: break
        }
        var bytes: [UInt8] = []
        if number != nil {
            JSONText.append(self, to: &bytes)
        } else {
            JSONText.append(compact: self, to: &bytes)
        }
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.count > 200 else { return text }
        return switch self {
        case .array(let elements): "a list of \(elements.count)"
        case .object(let object): "an object with \(object.members.count) keys"
        default: text.prefix(200) + "…"
        }
    }

    /// Returns whether the values are equal; 0 and 0.0 are the same number.
    func isSame(as other: JSONValue) -> Bool {
        if let number, let other = other.number { return number == other }
        return self == other
    }
}
