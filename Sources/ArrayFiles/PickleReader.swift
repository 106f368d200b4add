// Reads pickles without executing code. Builds plain values, NumPy arrays and NumPy types. Refuses a pickle that asks
// for any other object.
// Opcodes: CPython Lib/pickletools.py, protocols 0 to 5.

/// A value that was read from a pickle.
public indirect enum PickleValue: Equatable, Sendable {
    /// `None`.
    case none
    /// `True` or `False`.
    case bool(Bool)
    /// An `int` that fits into 64 bits.
    case integer(Int)
    /// A `float`.
    case number(Double)
    /// A `str`.
    case string(String)
    /// A `bytes`.
    case bytes([UInt8])
    /// A `list` or `tuple`.
    case list([PickleValue])
    /// A `dict`: its entries in order. Several entries may have the same key.
    case dictionary([Entry])
    /// A NumPy array or scalar of numbers: its header, and the bytes of its elements in the order that the header
    /// states.
    case array(NPYHeader, [UInt8])
    /// A NumPy array of Python objects.
    case objects(shape: [Int], [PickleValue])
    /// A NumPy type as a type string: `<f4`, `O8`, ….
    case dtype(String)

    /// One entry of a dictionary.
    public struct Entry: Equatable, Sendable {
        /// The key.
        public var key: PickleValue
        /// The value.
        public var value: PickleValue
    }

    /// Reads one pickle from the start of `bytes`; bytes after its end are ignored. Throws `PickleError`.
    public init(pickle bytes: [UInt8]) throws(PickleError) {
        var machine = Unpickler(bytes)
        self = try machine.run()
    }

    /// The value of the key `key`. If the key occurs several times, the last value. Nil if this is not a dictionary
    /// or lacks the key.
    public subscript(key: String) -> PickleValue? {
        guard case .dictionary(let entries) = self else { return nil }
        return entries.last { $0.key == .string(key) }?.value
    }

    /// The text; nil if this is not a string.
    public var string: String? { if case .string(let text) = self { text } else { nil } }

    /// The integer; nil if this is not an integer.
    public var integer: Int? { if case .integer(let value) = self { value } else { nil } }

    /// The integers of a list, or of an array of type `<i4`, `<i8` or `<u4`. Nil for any other value.
    public var integers: [Int]? {
        switch self {
        case .list(let values):
            let integers = values.compactMap(\.integer)
            return integers.count == values.count ? integers : nil
        case .array(let header, let data):
            let size = header.descr.hasSuffix("8") ? 8 : 4
            guard ["<i4", "<i8", "<u4"].contains(header.descr), data.count % size == 0 else {
                return nil
            }
            return data.withUnsafeBytes { raw in
                stride(from: 0, to: raw.count, by: size).map {
                    size == 8
                        ? Int(
                            Int64(
                                littleEndian: raw.loadUnaligned(fromByteOffset: $0, as: Int64.self))
                        )
                        : header.descr == "<u4"
                            ? Int(
                                UInt32(
                                    littleEndian: raw.loadUnaligned(
                                        fromByteOffset: $0, as: UInt32.self)))
                            : Int(
                                Int32(
                                    littleEndian: raw.loadUnaligned(
                                        fromByteOffset: $0, as: Int32.self)))
                }
            }
        default: return nil
        }
    }
}

/// The error for a pickle that is damaged or refused.
public enum PickleError: Error, Equatable, CustomStringConvertible {
    /// The pickle ends too early or is invalid; the string says why.
    case damaged(String)
    /// The pickle contains something that is not plain data; the string names it.
    case refused(String)

    /// The reason, as a phrase that follows the name of the array.
    public var description: String {
        switch self {
        case .damaged(let reason): "holds a pickle that is damaged (\(reason))"
        case .refused(let what): "holds a pickle with \(what); only plain data is loaded"
        }
    }
}

/// Executes the opcodes of a pickle on a stack, as Python's unpickler does.
private struct Unpickler {
    private let bytes: [UInt8]
    private var position = 0
    private var stack: [Item] = []
    private var memo: [Int: Item] = [:]
    /// How many more values may be copied to or from the memo. Without a limit, a short pickle could fill the memory
    /// with copies of copies.
    private var budget = 10_000_000
    /// How many more times a list or dictionary may be built or extended. This also limits the nesting depth.
    private var containers = 4096
    /// The longest accepted name of a NumPy type, in bytes. Real names are shorter (`f4`, `O8`, `S1048576`). Without
    /// a limit, a pickle could make a name longer with each use.
    private static let longestType = 16

    /// An item of the stack.
    private indirect enum Item {
        case value(PickleValue)
        case mark
        /// A function or class, as the names of its module and of itself.
        case global(String, String)
        /// A NumPy array that was created and does not have its shape and data yet.
        case emptyArray
    }

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    mutating func run() throws(PickleError) -> PickleValue {
        while true {
            let code = try byte()
            guard stack.count < 1 << 20, memo.count < 1 << 20 else {
                throw .refused("too many values")
            }
            if code == UInt8(ascii: ".") { return try popValue() }
            try execute(code)
        }
    }

    private mutating func execute(_ code: UInt8) throws(PickleError) {
        switch code {
        case 0x80: _ = try take(1)  // PROTO
        case 0x95: _ = try take(8)  // FRAME
        case UInt8(ascii: "("): stack.append(.mark)
        case UInt8(ascii: "N"): push(.none)
        case 0x88: push(.bool(true))
        case 0x89: push(.bool(false))
        case UInt8(ascii: "K"): push(.integer(Int(try byte())))
        case UInt8(ascii: "M"): push(.integer(try length(2)))
        case UInt8(ascii: "J"): push(.integer(Int(Int32(truncatingIfNeeded: try length(4)))))
        case 0x8A: push(.integer(try long()))
        case UInt8(ascii: "G"):
            let bits = try take(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            push(.number(Double(bitPattern: bits)))
        case UInt8(ascii: "X"): push(try text(try length(4)))
        case 0x8C: push(try text(try length(1)))
        case 0x8D: push(try text(try length(8)))
        case UInt8(ascii: "C"): push(.bytes(Array(try take(try length(1)))))
        case UInt8(ascii: "B"): push(.bytes(Array(try take(try length(4)))))
        case 0x8E: push(.bytes(Array(try take(try length(8)))))
        case UInt8(ascii: ")"), UInt8(ascii: "]"): push(.list([]))
        case UInt8(ascii: "}"): push(.dictionary([]))
        case 0x85, 0x86, 0x87:
            var values: [PickleValue] = []
            for _ in 0..<code - 0x84 { values.insert(try popValue(), at: 0) }
            try pushContainer(.list(values))
        case UInt8(ascii: "t"), UInt8(ascii: "l"):
            let values = try popToMark()
            try pushContainer(.list(values))
        case UInt8(ascii: "a"):
            let value = try popValue()
            try append([value])
        case UInt8(ascii: "e"):
            let values = try popToMark()
            try append(values)
        case UInt8(ascii: "s"):
            let value = try popValue()
            try setItems([try popValue(), value])
        case UInt8(ascii: "u"):
            let items = try popToMark()
            try setItems(items)
        case UInt8(ascii: "q"): try put(try length(1))
        case UInt8(ascii: "r"): try put(try length(4))
        case 0x94: try put(memo.count)
        case UInt8(ascii: "h"): try get(try length(1))
        case UInt8(ascii: "j"): try get(try length(4))
        case UInt8(ascii: "c"): stack.append(.global(try line(), try line()))
        case 0x93:
            let name = try popValue()
            guard let module = try popValue().string, let name = name.string else {
                throw damaged("a name that is not text")
            }
            stack.append(.global(module, name))
        case UInt8(ascii: "R"): try reduce()
        case UInt8(ascii: "b"): try build()
        default: throw .refused("opcode \(code)")
        }
    }

    // MARK: NumPy's objects

    /// Evaluates a call (opcode REDUCE). Accepts only the calls that make NumPy arrays and types, and makes their
    /// results without Python.
    private mutating func reduce() throws(PickleError) {
        let arguments = try pop()
        guard case .global(let module, let name) = try pop() else {
            throw .refused("a call of something that is not a function")
        }
        let isNumPy = module == "numpy" || module.hasPrefix("numpy.")
        switch name {
        case "_reconstruct" where isNumPy:
            stack.append(.emptyArray)
        case "dtype" where isNumPy:
            guard case .value(.list(let values)) = arguments, let type = values.first?.string else {
                throw damaged("a type without a name")
            }
            try pushType(type)
        case "scalar" where isNumPy:
            guard case .value(.list(let values)) = arguments, values.count == 2,
                case .dtype(let type) = values[0], case .bytes(let data) = values[1]
            else { throw damaged("a number without type or bytes") }
            push(.array(NPYHeader(descr: type, shape: []), data))
        case "_frombuffer" where isNumPy:
            throw .refused("an array in a buffer (protocol 5)")
        default: throw .refused("a call of \(module).\(name)")
        }
    }

    /// Sets the state of an array or a type (opcode BUILD).
    private mutating func build() throws(PickleError) {
        guard case .list(let state) = try popValue() else {
            throw .refused("an object with a state")
        }
        switch try pop() {
        case .value(.dtype(let type)):
            // The state of a type is (version, byte order, …).
            guard state.count > 1, let order = state[1].string else {
                throw damaged("a type without a byte order")
            }
            let orders = ["<", ">", "|", "="]
            guard orders.contains(order), !orders.contains(where: type.hasPrefix) else {
                throw damaged(
                    "a type whose byte order is not one of \(orders.joined(separator: " "))")
            }
            try pushType(order + type)
        case .emptyArray:
            // The state of an array is (version, shape, type, is Fortran, data).
            guard state.count == 5, let shape = state[1].integers, case .dtype(let type) = state[2]
            else { throw damaged("an array without shape or type") }
            switch state[4] {
            case .bytes(let data):
                push(
                    .array(
                        NPYHeader(
                            descr: type, isFortranOrder: state[3] == .bool(true), shape: shape),
                        data))
            case .list(let values): push(.objects(shape: shape, values))
            default: throw damaged("an array without data")
            }
        default: throw .refused("an object with a state")
        }
    }

    // MARK: The stack

    private mutating func push(_ value: PickleValue) { stack.append(.value(value)) }

    private mutating func pushType(_ name: String) throws(PickleError) {
        guard name.utf8.count <= Unpickler.longestType else {
            throw damaged("a type with a name of \(name.utf8.count) bytes")
        }
        push(.dtype(name))
    }

    private mutating func pushContainer(_ value: PickleValue) throws(PickleError) {
        containers -= 1
        guard containers > 0 else { throw .refused("too many lists") }
        push(value)
    }

    private mutating func pop() throws(PickleError) -> Item {
        guard let item = stack.popLast() else { throw damaged("its stack is empty") }
        return item
    }

    private mutating func popValue() throws(PickleError) -> PickleValue {
        switch try pop() {
        case .value(let value): return value
        // A NumPy class can be a value. Example: `ndarray` is an argument of `_reconstruct`.
        case .global(let module, let name) where module == "numpy" || module.hasPrefix("numpy."):
            return .string("\(module).\(name)")
        case .global(let module, let name): throw .refused("\(module).\(name)")
        case .mark, .emptyArray: throw damaged("a value is missing")
        }
    }

    private mutating func popToMark() throws(PickleError) -> [PickleValue] {
        var values: [PickleValue] = []
        while true {
            if case .mark? = stack.last {
                stack.removeLast()
                return values.reversed()
            }
            values.append(try popValue())
        }
    }

    private func top() throws(PickleError) -> Item {
        guard let item = stack.last else { throw damaged("its stack is empty") }
        return item
    }

    private mutating func get(_ slot: Int) throws(PickleError) {
        guard let item = memo[slot] else { throw damaged("it refers to an unknown memo entry") }
        if case .value(let value) = item {
            // The memo has a copy of the container as it was when it was stored. If the copy is empty, Python may
            // have filled the container later. So its content is unknown, and the pickle is refused.
            if value == .list([]) || value == .dictionary([]) {
                throw .refused("a list or dictionary in two places")
            }
            try charge(value)
        }
        stack.append(item)
    }

    private mutating func put(_ slot: Int) throws(PickleError) {
        let item = try top()
        // Charges the value, because a list that is also in the memo is copied when it grows.
        if case .value(let value) = item { try charge(value) }
        memo[slot] = item
    }

    private mutating func charge(_ value: PickleValue) throws(PickleError) {
        budget -= value.weight
        guard budget > 0 else { throw .refused("too many values") }
    }

    private mutating func append(_ values: [PickleValue]) throws(PickleError) {
        guard case .list(var list) = try popValue() else { throw damaged("a list is missing") }
        // `popValue` took the list off the stack. So `+=` extends the list in place and does not copy it.
        list += values
        try pushContainer(.list(list))
    }

    private mutating func setItems(_ items: [PickleValue]) throws(PickleError) {
        guard case .dictionary(var entries) = try popValue(), items.count % 2 == 0 else {
            throw damaged("a dictionary is missing")
        }
        entries += stride(from: 0, to: items.count, by: 2).map {
            PickleValue.Entry(key: items[$0], value: items[$0 + 1])
        }
        try pushContainer(.dictionary(entries))
    }

    // MARK: Bytes

    private func damaged(_ reason: String) -> PickleError { .damaged(reason) }

    private mutating func byte() throws(PickleError) -> UInt8 { try take(1).first! }

    private mutating func take(_ count: Int) throws(PickleError) -> ArraySlice<UInt8> {
        guard count <= bytes.count - position else { throw damaged("it is cut short") }
        position += count
        return bytes[position - count..<position]
    }

    private mutating func length(_ width: Int) throws(PickleError) -> Int {
        let value = try take(width).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard let length = Int(exactly: value) else { throw damaged("an impossible length") }
        return length
    }

    private mutating func long() throws(PickleError) -> Int {
        let digits = Array(try take(try length(1)))
        guard digits.count <= 8 else { throw .refused("an integer of \(digits.count) bytes") }
        let fill: UInt64 = (digits.last ?? 0) >= 0x80 ? .max : 0
        return Int(
            truncatingIfNeeded: digits.reversed().reduce(fill) { $0 << 8 | UInt64($1) })
    }

    private mutating func text(_ count: Int) throws(PickleError) -> PickleValue {
        guard let text = String(validating: try take(count), as: UTF8.self) else {
            throw damaged("text that is not UTF-8")
        }
        return .string(text)
    }

    private mutating func line() throws(PickleError) -> String {
        guard let end = bytes[position...].firstIndex(of: 0x0A) else {
            throw damaged("it is cut short")
        }
        defer { position = end + 1 }
        return String(decoding: bytes[position..<end], as: UTF8.self)
    }
}

extension PickleValue {
    /// The number of values in this value, including itself.
    fileprivate var weight: Int {
        switch self {
        case .list(let values), .objects(_, let values): values.reduce(1) { $0 + $1.weight }
        case .dictionary(let entries):
            entries.reduce(1) { $0 + $1.key.weight + $1.value.weight }
        default: 1
        }
    }
}
