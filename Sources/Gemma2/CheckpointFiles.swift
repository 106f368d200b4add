// A checkpoint's tensors, in one safetensors file or in shards with an index.
// Layout: transformers, `save_pretrained` (model.safetensors, model.safetensors.index.json).

import ArrayFiles
import ByteJSON

/// All tensors of a checkpoint folder, where they lie on disk.
public struct CheckpointFiles: Sendable {
    /// The file of a checkpoint that is in one.
    public static let singleName = "model.safetensors"
    /// The file that names the others of a checkpoint that is in several.
    public static let indexName = "model.safetensors.index.json"

    /// The folder.
    public let directory: String
    /// The safetensors files, by name.
    public let files: [(name: String, file: SafetensorsFile)]
    private let index: String?
    private let shardOfTensor: [ExactString: Int]

    /// Opens the folder's `model.safetensors`, else its shards, and checks their headers. Throws
    /// `FileError`, `SafetensorsError` or `CheckpointError`.
    public init(directory: String) throws {
        self.directory = directory
        let single = "\(directory)/\(CheckpointFiles.singleName)"
        let indexPath = "\(directory)/\(CheckpointFiles.indexName)"
        if fileExists(single) {
            files = [(CheckpointFiles.singleName, try SafetensorsFile(path: single))]
            (index, shardOfTensor) = (nil, [:])
            return
        }
        guard fileExists(indexPath) else { throw CheckpointError.noWeights(directory: directory) }
        index = indexPath
        var files: [(name: String, file: SafetensorsFile)] = []
        var shards: [ExactString: Int] = [:]
        var opened: [ExactString: Int] = [:]
        for (tensor, file) in try CheckpointFiles.readIndex(indexPath) {
            let key = ExactString(file)
            if opened[key] == nil {
                opened[key] = files.count
                files.append((file, try SafetensorsFile(path: "\(directory)/\(file)")))
            }
            shards[ExactString(tensor)] = opened[key]
        }
        self.files = files
        shardOfTensor = shards
    }

    /// The names of the files of weights that the index at `path` names. Throws `FileError` or `CheckpointError`.
    public static func weightNames(index path: String) throws -> [String] {
        var seen: Set<ExactString> = []
        return try readIndex(path).map(\.file).filter { seen.insert(ExactString($0)).inserted }
    }

    private static func readIndex(_ path: String) throws -> [(tensor: String, file: String)] {
        func bad(_ reason: String) -> CheckpointError { .badIndex(path: path, reason: reason) }
        let file = try MappedFile(path: path)
        let value: JSONValue
        do {
            value = try file.parsedJSON()
        } catch {
            throw bad("not JSON: \(error)")
        }
        guard let map = value.object?["weight_map"]?.object else {
            throw bad("has no weight_map object")
        }
        return try map.members.map { tensor, value in
            guard let name = value.string else {
                throw bad("\(tensor) is not mapped to a file name")
            }
            // A shard lies beside its index; anything else could read any file of the user's.
            guard !name.isEmpty, !name.utf8.contains(UInt8(ascii: "/")), !name.utf8.contains(0)
            else {
                throw bad("\(tensor) is mapped to '\(name)', expected a file name without folders")
            }
            return (tensor, name)
        }
    }

    /// The element types of the checkpoint's tensors, sorted by name.
    public var elementTypes: [ElementType] {
        files.reduce(into: Set()) { $0.formUnion($1.file.elementTypes) }
            .sorted { $0.rawValue < $1.rawValue }
    }

    /// Tensor `name`, which must have `shape`. Throws where it is missing or has another shape.
    func tensor(_ name: String, shape: [Int]) throws -> StoredTensor {
        let file: SafetensorsFile
        if let index {
            guard let shard = shardOfTensor[ExactString(name)] else {
                throw CheckpointError.badIndex(
                    path: index, reason: "tensor \(name) is not in its weight_map")
            }
            file = files[shard].file
        } else {
            file = files[0].file
        }
        let tensor = try file.tensor(name)
        guard tensor.shape == shape else {
            throw CheckpointError.wrongShape(
                path: file.file.path, tensor: name, shape: tensor.shape, expected: shape)
        }
        return tensor
    }
}
