// Describes JSON values in words, for messages.

extension JSONValue {
    /// Describes the value: its kind, and its content if that is short. Examples: "null", "a number (7)", "a string
    /// ("abc")", "a list".
    public var inWords: String {
        switch self {
        case .null: "null"
        case .bool(let value): "\(value) (a boolean)"
        case .integer, .number: "a number (\(text))"
        case .string(let string):
            string.count > 40
                ? "a string (\"\(string.prefix(37))...\")" : "a string (\"\(string)\")"
        case .array(let elements): elements.isEmpty ? "an empty list" : "a list"
        case .object(let object): object.members.isEmpty ? "an empty object" : "an object"
        }
    }

    private var text: String {
        var bytes: [UInt8] = []
        JSONText.append(self, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }
}
