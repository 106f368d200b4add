// Reads a checkpoint's tensors in the layout of transformers' `save_pretrained`: one safetensors file, or shards with
// an index.

import ArrayFiles
import ByteJSON
import Files

/// The tensors of a checkpoint folder, as stored in its safetensors files.
package struct CheckpointFiles: Sendable {
    /// The name of the weights file if a checkpoint has only one.
    package static let singleName = "model.safetensors"
    /// The name of the index of a checkpoint that is split into shards. It maps each tensor to the shard that stores
    /// it.
    package static let indexName = "model.safetensors.index.json"

    /// The path of the folder.
    package let directory: String
    /// The safetensors files and their names. Shards are in the order in which the index first names them.
    package let files: [(name: String, file: SafetensorsFile)]
    /// Warnings about files that are not read, although the user may want them: shards beside a single file, or an
    /// adapter. Each warning names the file.
    let warnings: [String]
    /// The names of all tensors, in the order of the single file or of the index.
    let names: [String]
    private let index: String?
    private let shardOfTensor: [ExactString: Int]

    /// Opens the folder's `model.safetensors`, or the shards that the index names if this file does not exist. Checks
    /// the headers. Throws `FileError`, `UnexpectedFileError`, `SafetensorsError` or `CheckpointError`.
    package init(directory: String) throws {
        self.directory = directory
        let single = "\(directory)/\(CheckpointFiles.singleName)"
        let indexPath = "\(directory)/\(CheckpointFiles.indexName)"
        if isListed(single) {
            let file = try SafetensorsFile(path: single)
            files = [(CheckpointFiles.singleName, file)]
            names = file.entries.map(\.name)
            lacksPrefix = CheckpointFiles.lacksPrefix(names)
            (index, shardOfTensor) = (nil, [:])
            warnings =
                CheckpointFiles.adapterWarnings(directory)
                + (fileExists(indexPath)
                    ? [
                        "\(directory): has both \(CheckpointFiles.singleName) and shards with \(CheckpointFiles.indexName); only \(CheckpointFiles.singleName) is read, as in transformers; remove the files that you do not want"
                    ] : [])
            return
        }
        guard isListed(indexPath) else { throw CheckpointError.noWeights(directory: directory) }
        index = indexPath
        var files: [(name: String, file: SafetensorsFile)] = []
        var shards: [ExactString: Int] = [:]
        var opened: [ExactString: Int] = [:]
        let entries = try CheckpointFiles.readIndex(indexPath)
        for (tensor, file) in entries {
            let key = ExactString(file)
            let shard = opened[key] ?? files.count
            if shard == files.count {
                try CheckpointFiles.checkShard(file, of: indexPath, in: directory)
                files.append((file, try SafetensorsFile(path: "\(directory)/\(file)")))
                opened[key] = shard
            }
            shards[ExactString(tensor)] = shard
        }
        self.files = files
        shardOfTensor = shards
        names = entries.map(\.tensor)
        lacksPrefix = CheckpointFiles.lacksPrefix(names)
        warnings = CheckpointFiles.adapterWarnings(directory)
    }

    /// Returns a warning if the folder also has an adapter. From such a folder, transformers with peft would load the
    /// adapter and the base model that it names.
    private static func adapterWarnings(_ directory: String) -> [String] {
        guard isListed(directory + "/adapter_config.json") else { return [] }
        return [
            "\(directory): has adapter_config.json beside the model's weights: this program does not apply the adapter; to use the adapter, merge it into the model first (peft: merge_and_unload, then save_pretrained), otherwise remove this file"
        ]
    }

    private static func lacksPrefix(_ names: [String]) -> Bool {
        names.contains { $0.hasPrefix("layers.") } && !names.contains { $0.hasPrefix("model.") }
    }

    /// Throws if the shard `name` is missing or is a PyTorch file (pickle). `path` is the index that names the shard.
    private static func checkShard(
        _ name: String, of path: String, in directory: String
    ) throws(CheckpointError) {
        let shard = "\(directory)/\(name)"
        guard isListed(shard) else {
            throw .missingShard(path: path, shard: shard)
        }
        let kind = name.hasSuffix(".safetensors") ? nil : FileKind(path: shard)
        guard kind != .torch, kind != .pickle else {
            throw .otherContents(
                directory: path,
                reason:
                    "names \(name), a file in PyTorch's format (pickle); this program does not read it, because a pickle can run any code; download the safetensors files and their index, or make them: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW)"
            )
        }
    }

    /// Returns the names of the shards that the index at `path` lists, each name once, in the order of the index.
    /// Throws `FileError`, `UnexpectedFileError` or `CheckpointError`.
    package static func weightNames(index path: String) throws -> [String] {
        var seen: Set<ExactString> = []
        return try readIndex(path).map(\.file).filter { seen.insert(ExactString($0)).inserted }
    }

    private static func readIndex(_ path: String) throws -> [(tensor: String, file: String)] {
        func bad(_ reason: String) -> CheckpointError { .badIndex(path: path, reason: reason) }
        let index = try MappedFile(path: path).jsonObject(or: bad)
        guard let map = index["weight_map"]?.object else {
            throw bad(
                index["weight_map"].map { "weight_map is \($0.excerpt), expected an object" }
                    ?? "has no weight_map")
        }
        return try map.members.map { tensor, value in
            guard let name = value.string else {
                throw bad("\(tensor) is mapped to \(value.excerpt), expected a file name")
            }
            // A shard must be in the folder of its index. Otherwise the index could make the program read any file of
            // the user.
            guard !name.isEmpty, !name.utf8.contains(UInt8(ascii: "/")), !name.utf8.contains(0)
            else {
                throw bad("\(tensor) is mapped to '\(name)', expected a file name without folders")
            }
            return (tensor, name)
        }
    }

    /// The element types of all tensors in the checkpoint, sorted by name.
    package var elementTypes: [ElementType] {
        files.reduce(into: Set()) { $0.formUnion($1.file.elementTypes) }
            .sorted { $0.rawValue < $1.rawValue }
    }

    /// The path of the file that lists the tensors: the index if the checkpoint has one, otherwise the single file.
    var listPath: String { index ?? files[0].file.file.path }

    /// Whether tensor names lack the prefix "model.": some begin with "layers.", and none begins with "model.".
    /// `save_pretrained` writes such names for transformers' class `Gemma2Model`, the model without its head.
    let lacksPrefix: Bool

    /// Whether the index or the single file lists a tensor with the name `name`.
    func has(_ name: String) -> Bool {
        index == nil
            ? files[0].file.has(name) : shardOfTensor[ExactString(name)] != nil
    }

    /// Returns the tensor `name` of this checkpoint. Throws if the tensor is missing, or is not float32, bfloat16 or
    /// float16.
    func tensor(_ name: String) throws -> StoredTensor { try file(of: name).tensor(name) }

    /// Returns the shape of the tensor `name`. Reads only the header. Throws the same errors as `tensor`.
    func shape(of name: String) throws -> [Int] { try file(of: name).tensorHeader(name).shape }

    /// Returns the file that stores the tensor `name`. Throws if the index does not list the tensor, or if the shard
    /// does not have it. A single file is returned without a check.
    func file(of name: String) throws -> SafetensorsFile {
        guard let index else { return files[0].file }
        guard let shard = shardOfTensor[ExactString(name)] else {
            throw SafetensorsError.missingTensor(path: index, tensor: name)
        }
        guard files[shard].file.has(name) else {
            throw CheckpointError.badIndex(
                path: index,
                reason:
                    "says that \(name) is in \(files[shard].name), but this file does not have it: index and shards were not saved together"
            )
        }
        return files[shard].file
    }
}
