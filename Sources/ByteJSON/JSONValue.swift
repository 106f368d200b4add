// JSON documents that are small enough to be a tree in memory: configurations, indices, manifests.

/// One JSON value.
public enum JSONValue: Equatable, Sendable {
    /// `null`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// A number without fraction and exponent that fits into `Int`.
    case integer(Int)
    /// Any other number.
    case number(Double)
    /// A string of valid Unicode.
    case string(String)
    /// An array.
    case array([JSONValue])
    /// An object with its members in the order of the text.
    case object(JSONObject)

    /// Parses one document, nested at most `JSONScanner.maximumDepth` deep. Throws `JSONSyntaxError`.
    public init(parsing bytes: UnsafeBufferPointer<UInt8>) throws(JSONSyntaxError) {
        var scanner = JSONScanner(bytes)
        self = try JSONValue(from: &scanner)
        try scanner.expectEnd()
    }

    /// Reads the value at the current position. `depth` is the number of arrays and objects around the value.
    public init(from scanner: inout JSONScanner, depth: Int = 0) throws(JSONSyntaxError) {
        guard depth < JSONScanner.maximumDepth else { throw scanner.tooDeep() }
        switch scanner.peek() {
        case UInt8(ascii: "{"):
            var members: [(key: String, value: JSONValue)] = []
            try scanner.readObject { (key, scanner) throws(JSONSyntaxError) in
                guard let name = String(validating: key, as: UTF8.self) else {
                    throw scanner.failure("a key that is not valid Unicode")
                }
                members.append((name, try JSONValue(from: &scanner, depth: depth + 1)))
            }
            self = .object(JSONObject(members))
        case UInt8(ascii: "["):
            var elements: [JSONValue] = []
            try scanner.readArray { (scanner) throws(JSONSyntaxError) in
                elements.append(try JSONValue(from: &scanner, depth: depth + 1))
            }
            self = .array(elements)
        case UInt8(ascii: "\""):
            var bytes: [UInt8] = []
            try scanner.readString(into: &bytes)
            guard let string = String(validating: bytes, as: UTF8.self) else {
                throw scanner.failure("a string that is not valid Unicode")
            }
            self = .string(string)
        default:
            self = try scanner.readScalar()
        }
    }

    /// The object; nil if this is another kind of value.
    public var object: JSONObject? { if case .object(let o) = self { o } else { nil } }
    /// The elements of the array; nil if this is another kind of value.
    public var array: [JSONValue]? { if case .array(let a) = self { a } else { nil } }
    /// The text of the string; nil if this is another kind of value.
    public var string: String? { if case .string(let s) = self { s } else { nil } }
    /// The integer; nil if this is another kind of value.
    public var integer: Int? { if case .integer(let i) = self { i } else { nil } }
    /// The truth value; nil if this is another kind of value.
    public var bool: Bool? { if case .bool(let b) = self { b } else { nil } }
    /// The number, with or without fraction; nil if this is another kind of value.
    public var number: Double? {
        switch self {
        case .integer(let i): Double(i)
        case .number(let d): d
        default: nil
        }
    }
}

/// A JSON object. Its members are in the order of the text, and its keys are compared byte by byte.
public struct JSONObject: Equatable, Sendable {
    /// The members in the order of the text, duplicates included.
    public private(set) var members: [(key: String, value: JSONValue)]

    /// Makes an object with these members, duplicates included.
    public init(_ members: [(key: String, value: JSONValue)] = []) {
        self.members = members
    }

    /// The value of `key`; nil if the key is missing. If the key occurs several times, the last value counts, as in
    /// Python. Setting a value removes all members with this key and appends a new member. Setting nil only removes
    /// them.
    public subscript(key: String) -> JSONValue? {
        get { members.last { $0.key.utf8.elementsEqual(key.utf8) }?.value }
        set {
            members.removeAll { $0.key.utf8.elementsEqual(key.utf8) }
            if let newValue { members.append((key, newValue)) }
        }
    }

    /// Returns whether the two objects have the same members in the same order.
    public static func == (a: JSONObject, b: JSONObject) -> Bool {
        a.members.count == b.members.count
            && zip(a.members, b.members).allSatisfy {
                $0.key.utf8.elementsEqual($1.key.utf8) && $0.value == $1.value
            }
    }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
    /// Makes an object with the members in the order of the literal.
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self.init(elements.map { (key: $0.0, value: $0.1) })
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByArrayLiteral
{
    /// Makes a string.
    public init(stringLiteral value: String) { self = .string(value) }

    /// Makes an integer.
    public init(integerLiteral value: Int) { self = .integer(value) }

    /// Makes an array.
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
}
