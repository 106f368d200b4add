// The identities of a run's input files. They show whether a file with the same name is the same file.

import ArrayFiles
import Corpus
import Crypto
import Files
import Gemma2
import Hooks
import SparseAutoencoders
import Tokenization

/// The files of the checkpoint and of the SAEs, with their identities. An identity needs only a few megabytes of a
/// file.
package struct InputFingerprints: Sendable {
    /// The file of an SAE.
    package struct SAE: Sendable {
        /// The SAE and its hook.
        package let chosen: ChosenSAE
        /// The file of the parameters.
        package let file: InputFile
        /// The width of the activations that the SAE encodes.
        package let dIn: Int
        /// The number of features.
        package let dSAE: Int
    }

    /// The files of the checkpoint: weights, then `config.json` and the tokenizer.
    package let checkpoint: [InputFile]
    /// The element types of the checkpoint's tensors, as safetensors names them, such as `BF16`.
    package let weightTypes: [String]
    /// The SAEs in the plan's order.
    package let saes: [SAE]
    /// Warnings about content that the program ignores although it may matter to the user. Each warning names the
    /// file.
    package let warnings: [String]

    /// The versions of the files that were read. A worker refuses a file of another version.
    package var versions: [FileVersion] { (checkpoint + saes.map(\.file)).map(\.version) }

    /// Reads and checks the checkpoint, the tokenizer and the SAEs of `plan`. Of a large file of weights, reads only
    /// the header and the blocks that `MappedFile.identity` hashes. Throws the readers' errors.
    package init(_ plan: RunPlan) throws {
        let folders = plan.locations.model
        let configPath = folders.config + "/config.json"
        let config = try Gemma2Config(path: configPath)
        let weights = try CheckpointFiles(directory: folders.weights)
        let tensors = try CheckpointTensors(weights, config)
        let tokenizerPath = try TokenizerFiles.file(in: folders.tokenizer)
        let tokenizer = try TokenizerFiles.check(directory: folders.tokenizer)
        let others = [configPath, tokenizerPath]
        var warnings = config.warnings + tensors.warnings + tokenizer.warnings
        if let id = config.bosTokenID, let bos = tokenizer.bos, id != bos {
            warnings.append(
                "\(configPath): bos_token_id is \(id), but <bos> has id \(bos) in \(tokenizerPath); the program uses \(bos)"
            )
        }
        checkpoint =
            try weights.files.map { try InputFile($1.file, headerLength: 8 + $1.headerLength) }
            + others.map { try InputFile(MappedFile(path: $0), headerLength: .max) }
        weightTypes = weights.elementTypes.map(\.rawValue)
        var saes: [SAE] = []
        for chosen in plan.saes {
            let source = try SAEFile(directory: chosen.directory)
            let dIn = config.width(of: chosen.hook.site)
            warnings += try source.check(
                dIn: dIn, hookName: chosen.hook.description, label: plan.label)
            saes.append(
                SAE(
                    chosen: chosen, file: try InputFile(source.file, headerLength: 1 << 16),
                    dIn: dIn, dSAE: try source.dSAE()))
        }
        (self.saes, self.warnings) = (saes, warnings)
    }
}

/// Returns the SHA-256 of all accepted documents in lower-case hexadecimal digits. For each document, in order, it
/// covers the author and the text, each after its number of bytes (u64).
package func corpusIdentity(_ authors: [AuthorDocuments]) -> String {
    var hash = SHA256()
    func add(_ text: String) {
        withUnsafeBytes(of: UInt64(text.utf8.count).littleEndian) {
            hash.update(bufferPointer: $0)
        }
        hash.update(data: Array(text.utf8))
    }
    for author in authors {
        for document in author.documents {
            add(author.author)
            add(document.text)
        }
    }
    return hexadecimal(hash.finalize())
}
