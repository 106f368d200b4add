// The names that the reader of a file knows: keys of a JSON object, or names of tensors. The reader uses some of
// them. It ignores names that change no number. It refuses names that would change numbers, because it would
// otherwise silently compute another model.

/// What a name in a file means for the computation.
public enum NameMeaning: Sendable {
    /// The reader reads the value of the name and checks it.
    case used
    /// The name changes no number, whatever its value is.
    case harmless
    /// The name changes numbers. The key is accepted only with one of these values, which change no number.
    case changesNumbers(unless: [JSONValue] = [])
}

/// The names that a reader knows.
public struct KnownNames: Sendable {
    private var meanings: [ExactString: NameMeaning] = [:]

    /// Makes the three groups of names. For each key, `changing` gives the values that change no number.
    public init(
        used: [String] = [], harmless: [String] = [], changing: [String: [JSONValue]] = [:]
    ) {
        for name in harmless { meanings[ExactString(name)] = .harmless }
        for name in used { meanings[ExactString(name)] = .used }
        for (name, values) in changing {
            meanings[ExactString(name)] = .changesNumbers(unless: values)
        }
    }

    /// Returns the meaning of `name`. Nil if the reader does not know the name.
    public func meaning(of name: String) -> NameMeaning? { meanings[ExactString(name)] }

    /// Checks every key of `object`. Appends unknown keys to `unknown`, each with `place` before it. Throws
    /// `KeyProblem` for a key whose value would change numbers.
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

/// The error for a key whose value requires a computation that this program does not have.
public struct KeyProblem: Error {
    /// The key, after the keys of the objects around it: "top.head".
    public let key: String
    /// The value that was found.
    public let found: JSONValue
    /// The values that this program supports; empty if it supports none.
    public let expected: [JSONValue]

    /// Makes the error. `key` includes the keys of the objects around it.
    public init(key: String, found: JSONValue, expected: [JSONValue]) {
        (self.key, self.found, self.expected) = (key, found, expected)
    }

    /// What is wrong: "attention_bias is true, expected false or null", or "…, which this program does not support"
    /// if no value is supported.
    public var reason: String {
        let values = expected.map(\.excerpt).joined(separator: " or ")
        return
            "\(key) is \(found.excerpt), \(expected.isEmpty ? "which this program does not support" : "expected \(values)")"
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

    /// Returns a warning that shows at most `limit` of the names. Nil if there are none. `path` is the path of the
    /// file. `what` is the plural noun for the names ("keys").
    public func warning(_ path: String, _ what: String, limit: Int) -> String? {
        guard !names.isEmpty else { return nil }
        let shown = names.prefix(limit).map { $0.count > 80 ? $0.prefix(80) + "…" : $0 }
        let rest = names.count > limit ? " and \(names.count - limit) more" : ""
        return
            "\(path): has \(what) that are not known and are ignored: \(shown.joined(separator: ", "))\(rest); if one of them should change the results, the results do not include that change"
    }
}

extension JSONValue {
    /// The value for a message: its JSON if that is short, otherwise its kind or the beginning of its JSON.
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

    /// Returns whether the values are equal. The numbers 0 and 0.0 are equal.
    func isSame(as other: JSONValue) -> Bool {
        if let number, let other = other.number { return number == other }
        return self == other
    }
}
