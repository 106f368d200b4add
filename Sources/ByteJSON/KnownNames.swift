// What a reader knows of a file's names, be they keys of a JSON object or tensors: which it uses, which change no
// number, and which would. What is not looked at would give numbers that are another model's, without a word.

/// What a name in a file means for what is computed.
public enum NameMeaning: Sendable {
    /// The reader reads it and checks its value.
    case used
    /// It changes no number, whatever its value.
    case harmless
    /// It would change numbers. A key may be there with one of these values, which change none.
    case changesNumbers(unless: [JSONValue] = [])
}

/// The names that a reader knows.
public struct KnownNames: Sendable {
    private var meanings: [ExactString: NameMeaning] = [:]

    /// The three sorts; `changing` has for each key the values that change nothing.
    public init(
        used: [String] = [], harmless: [String] = [], changing: [String: [JSONValue]] = [:]
    ) {
        for name in harmless { meanings[ExactString(name)] = .harmless }
        for name in used { meanings[ExactString(name)] = .used }
        for (name, values) in changing {
            meanings[ExactString(name)] = .changesNumbers(unless: values)
        }
    }

    /// What `name` means; nil where it is not known.
    public func meaning(of name: String) -> NameMeaning? { meanings[ExactString(name)] }

    /// Looks at every key of `object`. Those that are not known are added to `unknown`, with `place` in front. Throws
    /// at a key that would change numbers.
    public func check(
        _ object: JSONObject, place: String = "", unknown: inout UnknownNames
    ) throws(KeyProblem) {
        var last: [ExactString: JSONValue] = [:]
        // Of keys that are there twice the last counts.
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

/// A key whose value asks for another computation.
public struct KeyProblem: Error {
    /// The key, with the keys above it.
    public let key: String
    /// Its value.
    public let found: JSONValue
    /// The values that ask for nothing else.
    public let expected: [JSONValue]

    /// A complaint about `key`, with the keys above it.
    public init(key: String, found: JSONValue, expected: [JSONValue]) {
        (self.key, self.found, self.expected) = (key, found, expected)
    }

    /// "attention_bias is true, expected false or null", or that the key must not be there.
    public var reason: String {
        let values = expected.map(\.excerpt).joined(separator: " or ")
        return
            "\(key) is \(found.excerpt), \(expected.isEmpty ? "which this program does not compute" : "expected \(values)")"
    }
}

/// Names that a file has and its reader does not know.
public struct UnknownNames: Sendable {
    /// The names, in the file's order.
    public private(set) var names: [String] = []

    /// None.
    public init() {}

    /// Adds `name` behind the others.
    public mutating func append(_ name: String) { names.append(name) }

    /// One sentence that names up to `limit` of them, all `what` of the file at `path`; nil where there are none.
    public func warning(_ path: String, _ what: String, limit: Int) -> String? {
        guard !names.isEmpty else { return nil }
        let shown = names.prefix(limit).map { $0.count > 80 ? $0.prefix(80) + "…" : $0 }
        let rest = names.count > limit ? " and \(names.count - limit) more" : ""
        return
            "\(path): has \(what) that are not known and change nothing here: \(shown.joined(separator: ", "))\(rest); if one of them is to change what is computed, the results do not have it"
    }
}

extension JSONValue {
    /// The value as a message shows it: itself where it is short, else its kind.
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

    /// Equality in which 0 and 0.0 are one number.
    func isSame(as other: JSONValue) -> Bool {
        if let number, let other = other.number { return number == other }
        return self == other
    }
}
