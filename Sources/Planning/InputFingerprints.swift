// What a run reads, told apart from other files of the same names.

import ArrayFiles
import Corpus
import Crypto
import Files
import FoundationEssentials
import Gemma2
import Hooks
import SparseAutoencoders
import Tokenization

/// A file, as `run.json` and the configuration name it.
package struct InputFile: Sendable {
    package let path: String
    package let size: Int
    /// See `MappedFile.identity`.
    package let identity: String
    /// What was looked at.
    let version: FileVersion

    init(_ file: MappedFile, headerLength: Int) throws(FileError) {
        (path, version) = (file.path, file.version)
        size = file.bytes.count
        identity = try file.identity(headerLength: min(headerLength, size))
    }

    /// The last component of the path.
    package var name: String { path.split(separator: "/").last.map(String.init) ?? path }
}

/// The checkpoint's and the SAEs' files. Looking at them reads a few megabytes of each.
public struct InputFingerprints: Sendable {
    package struct SAE: Sendable {
        package let chosen: ChosenSAE
        package let file: InputFile
        package let dIn: Int
        package let dSAE: Int
    }

    /// Weights first, then `config.json` and the tokenizer.
    package let checkpoint: [InputFile]
    /// Types of the checkpoint's tensors.
    package let weightTypes: [String]
    package let saes: [SAE]
    /// What the files hold that somebody may have meant and that changes nothing. Each names its file.
    public let warnings: [String]

    /// Which versions of the files were looked at: workers use these and no others.
    package var versions: [FileVersion] { (checkpoint + saes.map(\.file)).map(\.version) }

    /// Looks at the files that `plan` names: at all that can be told without reading weights. Throws the readers' errors.
    public init(_ plan: RunPlan) throws {
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
                "\(configPath): bos_token_id is \(id), but <bos> is \(bos) in \(tokenizerPath), which counts"
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

extension MappedFile {
    /// SHA-256 over the file's size, its first `headerLength` bytes and 64 blocks of 64 KiB spread evenly
    /// from front to end; a file of up to 4 MiB, or one that is all header, is hashed whole. Lower-case hex.
    func identity(headerLength: Int) throws(FileError) -> String {
        var hash = SHA256()
        func update(_ range: Range<Int>) throws(FileError) {
            try load(range)
            hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: bytes[range]))
        }
        withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { hash.update(bufferPointer: $0) }
        let block = 1 << 16
        if bytes.count <= 64 * block || headerLength >= bytes.count {
            try update(0..<bytes.count)
        } else {
            try update(0..<headerLength)
            for i in 0..<64 {
                let start = (bytes.count - block) * i / 63
                try update(start..<start + block)
            }
        }
        return hexadecimal(hash.finalize())
    }
}

/// SHA-256 over the accepted (author, text) pairs in order, each preceded by its length in bytes.
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
