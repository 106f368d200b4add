// Reading one SAE: Gemma Scope's `params.npz`, or SAELens' `cfg.json` with `sae_weights.safetensors`.
// Formats: sae_lens, loading/pretrained_sae_loaders.py and saes/sae.py.

import ArrayFiles
import ByteJSON

/// Why an SAE was refused. Each names the file.
public enum SAEError: Error, Equatable, CustomStringConvertible {
    /// A folder with neither form of SAE in it.
    case noFiles(directory: String)
    /// A tensor's shape does not go with the others or with the tap.
    case wrongShape(path: String, tensor: String, shape: [Int], expected: String)
    /// A NaN or an infinity among the weights.
    case nonFinite(path: String, tensor: String)
    /// `cfg.json` describes an SAE that this program would compute wrongly.
    case unsupported(path: String, reason: String)

    /// What is wrong, where, expected and got, and the next step.
    public var description: String {
        switch self {
        case .noFiles(let directory):
            "\(directory): has neither params.npz nor cfg.json with sae_weights.safetensors; download this SAE again or choose another with --target_l0 or --sae_id"
        case .wrongShape(let path, let tensor, let shape, let expected):
            "\(path): \(tensor) has shape \(shape), expected \(expected); check that the SAE was made for this model, site and layer"
        case .nonFinite(let path, let tensor):
            "\(path): NaN or infinity in \(tensor); the file is damaged: download this SAE again"
        case .unsupported(let path, let reason):
            "\(path): \(reason); only JumpReLU SAEs as Gemma Scope publishes them are supported"
        }
    }
}

/// The file that holds an SAE's tensors, in either of the two forms.
public struct SAEFile: Sendable {
    /// The mapped file.
    public let file: MappedFile
    fileprivate let isSAELens: Bool
    private let find: @Sendable (String) throws -> StoredTensor

    /// The names of an SAE's files, in either form.
    static let fileNames = ["params.npz", "cfg.json", "sae_weights.safetensors"]

    /// Those of an SAE's files that are to be had of `directory` in a repository with files at `paths`: `params.npz`, else
    /// the other form's two. Paths from the repository's top.
    public static func files(in directory: String, of paths: Set<String>) -> [String] {
        let files = fileNames.map { "\(directory)/\($0)" }.filter(paths.contains)
        return files.first?.hasSuffix(".npz") == true ? [files[0]] : files
    }

    /// Opens the SAE in `directory`. Throws `FileError`, `NPZError`, `SafetensorsError` or `SAEError`.
    public init(directory: String) throws {
        let archive = directory + "/params.npz"
        let weights = directory + "/sae_weights.safetensors"
        if fileExists(archive) {
            let reader = try NPZReader(path: archive)
            file = reader.file
            isSAELens = false
            find = { name in
                // Some files spell W_enc and W_dec with a small w.
                let small = name.hasPrefix("W_") ? "w_" + name.dropFirst(2) : name
                return try reader.tensor(reader.names.contains(small) ? small : name)
            }
        } else if fileExists(weights) {
            let reader = try SafetensorsFile(path: weights)
            file = reader.file
            isSAELens = true
            find = { try reader.tensor($0) }
        } else {
            throw SAEError.noFiles(directory: directory)
        }
    }

    /// The number of features (`d_sae`), as the encoder's bias has it: small, and so quick to look at.
    public func dSAE() throws -> Int { try find("b_enc").shape.first ?? 0 }

    fileprivate func tensor(_ name: String) throws -> StoredTensor { try find(name) }
}

/// The five tensors of a JumpReLU SAE, where they lie.
public struct SAEParameters: Sendable {
    /// Encoder, (d_in, d_sae).
    public let wEnc: StoredTensor
    /// Encoder bias, (d_sae).
    public let bEnc: StoredTensor
    /// Decoder, (d_sae, d_in).
    public let wDec: StoredTensor
    /// Decoder bias, (d_in).
    public let bDec: StoredTensor
    /// JumpReLU threshold, (d_sae).
    public let threshold: StoredTensor
    /// The mapped file.
    public let file: MappedFile

    /// Reads the SAE in `directory`, made for taps of width `dIn` named `hookName`. Throws `FileError`,
    /// `NPZError`, `SafetensorsError` or `SAEError`.
    public init(directory: String, dIn: Int, hookName: String) throws {
        let source = try SAEFile(directory: directory)
        file = source.file
        if source.isSAELens {
            try SAEParameters.checkConfig(directory + "/cfg.json", dIn: dIn, hookName: hookName)
        }
        wEnc = try source.tensor("W_enc")
        bEnc = try source.tensor("b_enc")
        wDec = try source.tensor("W_dec")
        bDec = try source.tensor("b_dec")
        threshold = try source.tensor("threshold")
        try checkShapes(dIn: dIn)
        // W_enc and b_enc show in the first products; these would go unnoticed.
        for tensor in [threshold, bDec] where !tensor.floats().allSatisfy(\.isFinite) {
            throw SAEError.nonFinite(path: tensor.path, tensor: tensor.name)
        }
    }

    private func checkShapes(dIn: Int) throws {
        func check(_ tensor: StoredTensor, _ shape: [Int], _ meaning: String) throws {
            guard tensor.shape == shape else {
                throw SAEError.wrongShape(
                    path: tensor.path, tensor: tensor.name, shape: tensor.shape,
                    expected: "\(shape) (\(meaning))")
            }
        }
        guard wEnc.shape.count == 2, wEnc.shape[0] == dIn,
            (1...Int(Int32.max)).contains(wEnc.shape[1])
        else {
            throw SAEError.wrongShape(
                path: wEnc.path, tensor: wEnc.name, shape: wEnc.shape,
                expected: "[\(dIn), d_sae] (the tap's width and the number of features)")
        }
        let dSAE = wEnc.shape[1]
        try check(bEnc, [dSAE], "d_sae")
        try check(wDec, [dSAE, dIn], "d_sae, d_in")
        try check(bDec, [dIn], "d_in")
        try check(threshold, [dSAE], "d_sae")
    }

    /// Refuses an SAE whose configuration asks for another computation. Before SAELens 6 the keys are flat;
    /// since then those about the model stand under `metadata`.
    private static func checkConfig(_ path: String, dIn: Int, hookName: String) throws {
        func unsupported(_ reason: String) -> SAEError { .unsupported(path: path, reason: reason) }
        let file = try MappedFile(path: path)
        let value: JSONValue
        do {
            value = try file.parsedJSON()
        } catch {
            throw unsupported("not JSON: \(error)")
        }
        guard let config = value.object else { throw unsupported("not a JSON object") }
        guard config["architecture"]?.string == "jumprelu" else {
            throw unsupported(
                "architecture is \(config["architecture"]?.string ?? "missing"), expected jumprelu")
        }
        guard config["apply_b_dec_to_input"]?.bool == false else {
            throw unsupported("apply_b_dec_to_input is not false")
        }
        switch config["normalize_activations"] {
        case nil, .null, .bool(false), .string("none"): break
        default: throw unsupported("normalize_activations is set, expected \"none\"")
        }
        if let declared = config["d_in"]?.integer, declared != dIn {
            throw unsupported("d_in is \(declared), expected \(dIn), the width of \(hookName)")
        }
        let hook = config["hook_name"] ?? config["metadata"]?.object?["hook_name"]
        if let hook = hook?.string, hook != hookName {
            throw unsupported("was made for \(hook), expected \(hookName)")
        }
    }
}
