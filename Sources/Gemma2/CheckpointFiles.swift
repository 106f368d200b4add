// A checkpoint's tensors, in one safetensors file or in shards with an index.
// Layout: transformers, `save_pretrained` (model.safetensors, model.safetensors.index.json).

import ArrayFiles
import ByteJSON
import Files

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
    /// What lies in the folder that somebody may have meant instead. Each names the file.
    let warnings: [String]
    /// The names of all tensors, in the file's order or the index'.
    let names: [String]
    private let index: String?
    private let shardOfTensor: [ExactString: Int]

    /// Opens the folder's `model.safetensors`, else its shards, and checks their headers. Throws
    /// `FileError`, `UnexpectedFileError`, `SafetensorsError` or `CheckpointError`.
    public init(directory: String) throws {
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
                        "\(directory): has \(CheckpointFiles.singleName) and, beside it, shards with \(CheckpointFiles.indexName); the single file is read, as transformers does; remove the one that is not meant"
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

    /// What is to be said of an adapter beside the weights: with peft, transformers loads it, and the model that it names.
    private static func adapterWarnings(_ directory: String) -> [String] {
        guard isListed(directory + "/adapter_config.json") else { return [] }
        return [
            "\(directory): has adapter_config.json beside the model's weights: the adapter is not applied here; if it is meant, merge it first (peft: merge_and_unload, then save_pretrained), else remove the file"
        ]
    }

    private static func lacksPrefix(_ names: [String]) -> Bool {
        names.contains { $0.hasPrefix("layers.") } && !names.contains { $0.hasPrefix("model.") }
    }

    /// Fails where the shard called `name`, which the index at `path` names, is not there or none that is read.
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
                    "names \(name), weights in PyTorch's form (pickle), which could run programs when opened and are not read; download the safetensors with their own index, or save them so: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW)"
            )
        }
    }

    /// The names of the files of weights that the index at `path` names. Throws `FileError`, `UnexpectedFileError` or
    /// `CheckpointError`.
    public static func weightNames(index path: String) throws -> [String] {
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

    /// The file that says which tensors there are.
    var listPath: String { index ?? files[0].file.file.path }

    /// Whether names begin with "layers." and none with "model.", as `save_pretrained` of the model without its head has them.
    let lacksPrefix: Bool

    /// Whether a tensor called `name` is there.
    func has(_ name: String) -> Bool {
        index == nil
            ? files[0].file.has(name) : shardOfTensor[ExactString(name)] != nil
    }

    /// The tensor that this checkpoint calls `name`. Throws where it is missing or of no weights' type.
    func tensor(_ name: String) throws -> StoredTensor { try file(of: name).tensor(name) }

    /// Its shape, without reading it. Throws alike.
    func shape(of name: String) throws -> [Int] { try file(of: name).tensorHeader(name).shape }

    /// The file that has the tensor called `name`. Throws where the index names none, or one that does not have it.
    func file(of name: String) throws -> SafetensorsFile {
        guard let index else { return files[0].file }
        guard let shard = shardOfTensor[ExactString(name)] else {
            throw SafetensorsError.missingTensor(path: index, tensor: name)
        }
        guard files[shard].file.has(name) else {
            throw CheckpointError.badIndex(
                path: index,
                reason:
                    "says that \(name) is in \(files[shard].name), which does not have it: index and shards were not saved together"
            )
        }
        return files[shard].file
    }
}
