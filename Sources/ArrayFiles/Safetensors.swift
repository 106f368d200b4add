// Reads safetensors: an 8-byte header length, a JSON header, then the bytes of the tensors without gaps.
// Format: https://github.com/huggingface/safetensors (README, "Format").

import ByteJSON
import Files

/// The error for a safetensors file that was refused. It names the file, and the tensor if only one tensor is wrong.
public enum SafetensorsError: Error, Equatable, CustomStringConvertible {
    /// The file is shorter than the header length that it announces.
    case truncatedHeader(path: String, announced: UInt64, fileSize: Int)
    /// The announced header exceeds the format's limit of 100 MB.
    case headerTooLarge(path: String, announced: UInt64)
    /// The header is not the JSON that the format requires.
    case badHeader(path: String, reason: String)
    /// The entry of a tensor does not follow the format.
    case badEntry(path: String, tensor: String, reason: String)
    /// The bytes of a tensor end beyond the end of the file.
    case truncatedData(path: String, tensor: String, end: Int, available: Int)
    /// Two tensors overlap, or bytes between two tensors belong to no tensor.
    case notContiguous(path: String, tensor: String, begin: Int, expected: Int)
    /// Bytes follow the last tensor.
    case trailingBytes(path: String, count: Int)
    /// A requested tensor is not in the file.
    case missingTensor(path: String, tensor: String)
    /// A requested tensor has a type that this program does not compute with.
    case otherType(path: String, tensor: String, type: String)

    /// The path, what is wrong (with expected and found values), and the next step.
    public var description: String {
        let again = "; the file is damaged or not safetensors: download or export it again"
        return switch self {
        case .truncatedHeader(let path, let announced, let size):
            "\(path): a header of \(announced) bytes is announced, but the file has \(size) bytes\(again)"
        case .headerTooLarge(let path, let announced):
            "\(path): a header of \(announced) bytes is announced, more than the format's 100,000,000\(again)"
        case .badHeader(let path, let reason): "\(path): bad header: \(reason)\(again)"
        case .badEntry(let path, let tensor, let reason):
            "\(path): tensor \(tensor): \(reason)\(again)"
        case .truncatedData(let path, let tensor, let end, let available):
            "\(path): tensor \(tensor) ends at byte \(end) of the data, but the data has only \(available) bytes: the file is cut short; download it again"
        case .notContiguous(let path, let tensor, let begin, let expected):
            "\(path): tensor \(tensor) begins at byte \(begin) of the data, expected \(expected): tensors overlap or leave a gap\(again)"
        case .trailingBytes(let path, let count):
            "\(path): \(count) bytes follow the last tensor\(again)"
        case .missingTensor(let path, let tensor):
            "\(path): tensor \(tensor) is not in the file; check that this is the right checkpoint"
        case .otherType(let path, let tensor, let type):
            "\(path): tensor \(tensor) has dtype \(type), expected F32, BF16 or F16; if the file is quantised, give the file that it was made from; otherwise save it again as one of these types"
        }
    }
}

/// A memory-mapped safetensors file whose header has been checked.
public struct SafetensorsFile: Sendable {
    /// The memory-mapped file.
    public let file: MappedFile
    /// The length of the JSON header in bytes.
    public let headerLength: Int
    /// The tensors, in the order of their data in the file.
    public let entries: [Entry]
    private let tensors: [ExactString: StoredTensor]
    /// For each tensor whose type this program does not compute with: the format's name of the type.
    private let otherTypes: [ExactString: String]

    /// The element types that this program computes with, by the format's name.
    private static let elementTypes: [String: ElementType] = [
        "F32": .float32, "BF16": .bfloat16, "F16": .float16,
    ]
    /// The number of bytes of an element, by the format's name of the type. Types of less than a byte and types of
    /// newer versions of the format are missing. The size of a tensor of such a type is not checked.
    private static let sizes: [String: Int] = [
        "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2, "F16": 2,
        "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
        "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
    ]

    /// Memory-maps the file at `path` and checks the sizes of all tensors, and that their data lie in the file
    /// without overlaps or gaps. Throws `FileError`, `UnexpectedFileError` or `SafetensorsError`.
    public init(path: String) throws {
        let file = try MappedFile(path: path, .onDemand)
        do {
            try self.init(file)
        } catch {
            throw file.explained(error, as: .safetensors)
        }
    }

    private init(_ file: MappedFile) throws {
        self.file = file
        let path = file.path
        guard file.bytes.count >= 8 else {
            throw SafetensorsError.truncatedHeader(
                path: path, announced: 8, fileSize: file.bytes.count)
        }
        try file.load(0..<8)
        let announced = UInt64(littleEndian: file.bytes.loadUnaligned(as: UInt64.self))
        guard announced <= 100_000_000 else {
            throw SafetensorsError.headerTooLarge(path: path, announced: announced)
        }
        headerLength = Int(announced)
        guard headerLength <= file.bytes.count - 8 else {
            throw SafetensorsError.truncatedHeader(
                path: path, announced: announced, fileSize: file.bytes.count)
        }
        try file.load(8..<8 + headerLength)
        let header = UnsafeRawBufferPointer(rebasing: file.bytes[8..<8 + headerLength])
        let data = UnsafeRawBufferPointer(rebasing: file.bytes[(8 + headerLength)...])
        (entries, tensors, otherTypes) = try SafetensorsFile.readEntries(
            header: header, data: data, file: file)
    }

    /// The header's entry for one tensor.
    public struct Entry: Sendable {
        /// The name of the tensor.
        public let name: String
        /// The format's name of the element type: F32, BF16, …
        public let dtype: String
        /// Sizes of the dimensions, outermost first.
        public let shape: [Int]
        /// Offset of the first byte, from the start of the data.
        public let begin: Int
        /// Offset after the last byte, from the start of the data.
        public let end: Int
    }

    private static func readEntries(
        header: UnsafeRawBufferPointer, data: UnsafeRawBufferPointer, file: MappedFile
    ) throws -> (
        entries: [Entry], tensors: [ExactString: StoredTensor], otherTypes: [ExactString: String]
    ) {
        let root: JSONValue
        do {
            root = try header.withMemoryRebound(to: UInt8.self) { try JSONValue(parsing: $0) }
        } catch {
            throw SafetensorsError.badHeader(path: file.path, reason: "\(error)")
        }
        guard let object = root.object else {
            throw SafetensorsError.badHeader(path: file.path, reason: "not a JSON object")
        }
        var entries: [Entry] = []
        for (name, value) in object.members where name != "__metadata__" {
            entries.append(try readEntry(name, value, dataCount: data.count, path: file.path))
        }
        entries.sort { ($0.begin, $0.end) < ($1.begin, $1.end) }
        var tensors: [ExactString: StoredTensor] = [:]
        var otherTypes: [ExactString: String] = [:]
        var end = 0
        for entry in entries {
            guard entry.begin == end else {
                throw SafetensorsError.notContiguous(
                    path: file.path, tensor: entry.name, begin: entry.begin, expected: end)
            }
            end = entry.end
            let key = ExactString(entry.name)
            guard tensors[key] == nil, otherTypes[key] == nil else {
                throw SafetensorsError.badEntry(
                    path: file.path, tensor: entry.name, reason: "is listed twice")
            }
            guard let elementType = elementTypes[entry.dtype] else {
                otherTypes[key] = entry.dtype
                continue
            }
            tensors[key] = StoredTensor(
                name: entry.name, path: file.path, elementType: elementType, shape: entry.shape,
                bytes: UnsafeRawBufferPointer(rebasing: data[entry.begin..<entry.end]), owner: file)
        }
        guard end == data.count else {
            throw SafetensorsError.trailingBytes(path: file.path, count: data.count - end)
        }
        return (entries, tensors, otherTypes)
    }

    private static func readEntry(
        _ name: String, _ value: JSONValue, dataCount: Int, path: String
    ) throws -> Entry {
        func bad(_ reason: String) -> SafetensorsError {
            .badEntry(path: path, tensor: name, reason: reason)
        }
        guard let entry = value.object else { throw bad("its entry is not an object") }
        guard let dtype = entry["dtype"]?.string else { throw bad("its dtype is not a string") }
        let size = sizes[dtype]
        guard let dimensions = entry["shape"]?.array?.map(\.integer), !dimensions.contains(nil)
        else { throw bad("its shape is not a list of whole numbers") }
        let shape = dimensions.compactMap { $0 }
        guard let expected = byteCount(shape: shape, elementSize: size ?? 1) else {
            throw bad("shape \(shape) is negative or too large")
        }
        guard let offsets = entry["data_offsets"]?.array, offsets.count == 2,
            let begin = offsets[0].integer, let end = offsets[1].integer, begin >= 0, end >= begin
        else { throw bad("its data_offsets are not [begin, end] with 0 <= begin <= end") }
        // If the type is not in the table, an element has at least one bit.
        guard size != nil ? end - begin == expected : expected / 8 <= end - begin else {
            throw bad(
                "\(end - begin) bytes are announced, expected \(size != nil ? "" : "at least ")\(size != nil ? expected : expected / 8) for \(dtype) \(shape)"
            )
        }
        guard end <= dataCount else {
            throw SafetensorsError.truncatedData(
                path: path, tensor: name, end: end, available: dataCount)
        }
        return Entry(name: name, dtype: dtype, shape: shape, begin: begin, end: end)
    }

    /// The element types of the tensors that this program computes with.
    public var elementTypes: Set<ElementType> { Set(tensors.values.map(\.elementType)) }

    /// Whether the file has a tensor called `name`, of any type.
    public func has(_ name: String) -> Bool {
        tensors[ExactString(name)] != nil || otherTypes[ExactString(name)] != nil
    }

    /// Returns the tensor called `name`. Throws `SafetensorsError` if the tensor is missing or has a type that this
    /// program does not compute with. Throws `FileError` if its bytes cannot be read.
    public func tensor(_ name: String) throws -> StoredTensor {
        let tensor = try entry(name)
        let start = tensor.bytes.baseAddress.map { $0 - file.bytes.baseAddress! } ?? 0
        try file.load(start..<start + tensor.bytes.count)
        return tensor
    }

    /// Returns the element type and shape of the tensor called `name`, without reading its elements. Throws
    /// `SafetensorsError` in the same cases as `tensor`.
    public func tensorHeader(
        _ name: String
    ) throws(SafetensorsError) -> (elementType: ElementType, shape: [Int]) {
        let tensor = try entry(name)
        return (tensor.elementType, tensor.shape)
    }

    /// Returns the tensor called `name`. Does not load the bytes of the tensor.
    private func entry(_ name: String) throws(SafetensorsError) -> StoredTensor {
        if let tensor = tensors[ExactString(name)] { return tensor }
        guard let dtype = otherTypes[ExactString(name)] else {
            throw .missingTensor(path: file.path, tensor: name)
        }
        throw .otherType(path: file.path, tensor: name, type: dtype)
    }
}
