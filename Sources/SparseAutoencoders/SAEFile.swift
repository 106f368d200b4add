// Reads and checks the files of one SAE: Gemma Scope's `params.npz`, or SAELens' `sae_weights.safetensors` with
// `cfg.json`.
// Source of the formats: sae_lens, loading/pretrained_sae_loaders.py and saes/sae.py.

import ArrayFiles
import ByteJSON
import Files

/// Errors for an SAE that cannot be used. Each message names the file or the folder.
package enum SAEError: Error, Equatable, CustomStringConvertible {
    /// The folder has neither `params.npz` nor `sae_weights.safetensors`.
    case noFiles(directory: String)
    /// The shape of a tensor does not match the other tensors or the width of the tap.
    case wrongShape(path: String, tensor: String, shape: [Int], expected: String)
    /// A tensor has a NaN or an infinity.
    case nonFinite(path: String, tensor: String)
    /// `cfg.json` or a tensor describes an SAE that this program would compute wrongly.
    case unsupported(path: String, reason: String)
    /// `cfg.json` says that the SAE was made for another hook or has other sizes.
    case elsewhere(path: String, reason: String)
    /// A required tensor is missing. `reason` says which tensors the file has instead.
    case missingTensor(path: String, tensor: String, reason: String)

    /// The message: the file, what was found and expected, and the next step.
    package var description: String {
        switch self {
        case .noFiles(let directory):
            "\(directory): has neither params.npz nor cfg.json with sae_weights.safetensors; download this SAE again or choose another with --target_l0 or --sae_id"
        case .wrongShape(let path, let tensor, let shape, let expected):
            "\(path): \(tensor) has shape \(shape), expected \(expected); check that the SAE was made for this model, site and layer"
        case .nonFinite(let path, let tensor):
            "\(path): NaN or infinity in \(tensor); the file is damaged: download this SAE again"
        case .unsupported(let path, let reason):
            "\(path): \(reason); only JumpReLU SAEs as Gemma Scope publishes them are supported"
        case .elsewhere(let path, let reason):
            "\(path): \(reason); check that the SAE was made for this model, site and layer, and that it is in the folder of this site and layer"
        case .missingTensor(let path, let tensor, let reason):
            "\(path): tensor \(tensor) is not in the file; \(reason)"
        }
    }
}

/// The file that stores the tensors of an SAE: `params.npz` or `sae_weights.safetensors`.
package struct SAEFile: Sendable {
    /// Element type and shape of a tensor, which are known without reading its elements.
    typealias Header = (elementType: ElementType, shape: [Int])

    /// The file, mapped into memory.
    package let file: MappedFile
    /// The names of the tensors in the file.
    let names: [String]
    /// The path of `cfg.json`; nil for `params.npz`, which has no configuration.
    private let configPath: String?
    private let find: @Sendable (String) throws -> StoredTensor
    private let findHeader: @Sendable (String) throws -> Header

    /// The names of the files of both formats.
    static let fileNames = ["params.npz", "cfg.json", "sae_weights.safetensors"]

    /// Returns the paths of the files to read for the SAE in `directory`: `params.npz` if it exists, otherwise
    /// `cfg.json` and `sae_weights.safetensors`, if they exist. `paths` are all files of the repository. All paths
    /// are relative to its top folder.
    package static func files(in directory: String, of paths: Set<String>) -> [String] {
        let files = fileNames.map { "\(directory)/\($0)" }.filter(paths.contains)
        return files.first?.hasSuffix(".npz") == true ? [files[0]] : files
    }

    /// Opens the SAE in `directory` and reads the names of its tensors. Throws `FileError`, `UnexpectedFileError`,
    /// `NPZError`, `SafetensorsError` or `SAEError`.
    package init(directory: String) throws {
        let archive = directory + "/params.npz"
        let weights = directory + "/sae_weights.safetensors"
        if isListed(archive) {
            let reader = try NPZReader(path: archive)
            file = reader.file
            names = reader.names.sorted()
            configPath = nil
            // Some files spell W_enc and W_dec with a lower-case w.
            let spelling = { @Sendable (name: String) in
                let small = name.hasPrefix("W_") ? "w_" + name.dropFirst(2) : name
                return reader.names.contains(small) ? small : name
            }
            find = { try reader.tensor(spelling($0)) }
            findHeader = { name in
                let header = try reader.tensorHeader(spelling(name))
                try reader.checkUnpacking(ofWeights: spelling(name))
                return header
            }
        } else if isListed(weights) {
            let reader = try SafetensorsFile(path: weights)
            file = reader.file
            names = reader.entries.map(\.name)
            configPath = directory + "/cfg.json"
            find = { try reader.tensor($0) }
            findHeader = { try reader.tensorHeader($0) }
        } else {
            throw SAEError.noFiles(directory: directory)
        }
    }

    /// Returns the number of features (`d_sae`), from the header of `b_enc`.
    package func dSAE() throws -> Int { try findHeader("b_enc").shape.first ?? 0 }

    func tensor(_ name: String) throws -> StoredTensor { try find(name) }

    // MARK: Checking

    /// Returns the tensors that an SAE is computed from: their names, their shapes, and the meaning of each shape.
    private static func shapes(_ dIn: Int, _ dSAE: Int) -> [(String, [Int], meaning: String)] {
        [
            ("W_enc", [dIn, dSAE], "d_in, d_sae"), ("b_enc", [dSAE], "d_sae"),
            ("W_dec", [dSAE, dIn], "d_sae, d_in"), ("b_dec", [dIn], "d_in"),
            ("threshold", [dSAE], "d_sae"),
        ]
    }

    /// Names of tensors that only other kinds of SAE have, each with the kind of SAE that has it.
    private static let otherKinds = [
        ("log_threshold", "a training checkpoint: export it with SAELens' save_inference_model"),
        ("W_gate", "a gated SAE"), ("b_gate", "a gated SAE"), ("r_mag", "a gated SAE"),
        ("b_mag", "a gated SAE"), ("gate", "a gated SAE"), ("k", "a TopK SAE"),
        ("topk_threshold", "a BatchTopK SAE"), ("W_skip", "a transcoder with a skip connection"),
        ("affine_skip_connection", "a transcoder with a skip connection"),
        ("b_dec_out", "a transcoder"), ("s_scale", "an SAE that scales its features"),
        ("pre_bias", "an SAE that subtracts a bias from its input"),
    ]

    /// Checks that the files are a JumpReLU SAE for activations of width `dIn` at the hook `hookName`. Does not read
    /// the weights. Returns warnings; with `label`, also about an SAE that was made for another model. Throws
    /// `FileError`, `UnexpectedFileError`, `NPZError`, `SafetensorsError` or `SAEError`.
    @discardableResult
    package func check(dIn: Int, hookName: String, label: String? = nil) throws -> [String] {
        // The configuration is checked before the tensors, because it states the kind of the SAE.
        let config = try configPath.map { try SAEConfig(path: $0) }
        var warnings = try config?.check(dIn: dIn, hookName: hookName, label: label) ?? []
        if let warning = bothFormsWarning { warnings.append(warning) }
        for (name, kind) in SAEFile.otherKinds where names.contains(name) {
            throw SAEError.unsupported(path: file.path, reason: "has the tensor \(name): \(kind)")
        }
        for small in ["w_enc", "w_dec"] {
            let name = "W" + small.dropFirst()
            if configPath == nil, names.contains(small), names.contains(name) {
                throw SAEError.unsupported(
                    path: file.path, reason: "has both \(name) and \(small), expected one")
            }
        }
        if names.contains("encoder.weight"), !names.contains("W_enc") {
            throw SAEError.missingTensor(
                path: file.path, tensor: "W_enc",
                reason:
                    "encoder.weight is stored instead: the file has the names and layout of PyTorch's linear layers; save encoder.weight transposed as W_enc (d_in, d_sae), decoder.weight transposed as W_dec, and the biases as b_enc and b_dec"
            )
        }
        let dSAE = try checkShapes(dIn: dIn)
        try config?.checkFeatures(dSAE)
        try checkScale(dSAE: dSAE)
        var unknown = UnknownNames()
        for name in names where !SAEFile.knownNames.contains(name) { unknown.append(name) }
        warnings += [unknown.warning(file.path, "tensors", limit: 5)].compactMap { $0 }
        return warnings
    }

    /// A warning if the folder has both `params.npz` and files of the other format. Nil otherwise.
    private var bothFormsWarning: String? {
        let directory = parentFolder(of: file.path)
        let others = SAEFile.fileNames.dropFirst().filter { isListed("\(directory)/\($0)") }
        guard configPath == nil, !others.isEmpty else { return nil }
        return
            "\(directory): has \(SAEFile.fileNames[0]) and also \(others.joined(separator: " and ")); \(SAEFile.fileNames[0]) is read, the other files are ignored; remove the files that you do not want"
    }

    private static let knownNames: Set<String> = [
        "W_enc", "w_enc", "b_enc", "W_dec", "w_dec", "b_dec", "threshold", "scaling_factor",
    ]

    /// Checks that all tensors exist and that their shapes match. Returns the number of features.
    private func checkShapes(dIn: Int) throws -> Int {
        let encoder = try header("W_enc").shape
        guard encoder.count == 2, encoder[0] == dIn, (1...Int(Int32.max)).contains(encoder[1])
        else {
            throw SAEError.wrongShape(
                path: file.path, tensor: "W_enc", shape: encoder,
                expected: "[\(dIn), d_sae] (the tap's width and the number of features)")
        }
        for (name, shape, meaning) in SAEFile.shapes(dIn, encoder[1]) {
            let found = try header(name).shape
            guard found == shape else {
                throw SAEError.wrongShape(
                    path: file.path, tensor: name, shape: found,
                    expected: "\(shape) (\(meaning))")
            }
        }
        return encoder[1]
    }

    private func header(_ name: String) throws -> Header {
        do {
            return try findHeader(name)
        } catch SafetensorsError.missingTensor(let path, let tensor) {
            let rest = names.count > 8 ? " and \(names.count - 8) more" : ""
            let found = names.isEmpty ? "no tensors" : names.prefix(8).joined(separator: ", ")
            throw SAEError.missingTensor(
                path: path, tensor: tensor,
                reason: "the file has \(found)\(rest); check that SAELens saved a JumpReLU SAE")
        }
    }

    /// Throws if the tensor `scaling_factor` exists and has an element that is not 1. Some versions of SAELens saved
    /// the factors of a fine-tuning in this tensor. Factors of 1 change nothing.
    private func checkScale(dSAE: Int) throws {
        guard names.contains("scaling_factor") else { return }
        // The shape is checked before the tensor is read, because a wrong shape could ask for any amount of memory.
        let shape = try header("scaling_factor").shape
        guard [[dSAE], [1], []].contains(shape) else {
            throw SAEError.wrongShape(
                path: file.path, tensor: "scaling_factor", shape: shape,
                expected: "[\(dSAE)] (d_sae)")
        }
        guard try tensor("scaling_factor").floats().allSatisfy({ $0 == 1 }) else {
            throw SAEError.unsupported(
                path: file.path,
                reason: "has the tensor scaling_factor, which is not 1 for each feature")
        }
    }
}
