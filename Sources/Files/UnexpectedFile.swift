// The error for a file that is not of the kind that its reader expects. It says what the file is, and the next step.

import ByteJSON

/// The kind of file that a reader expects.
public enum ExpectedFile: Sendable {
    /// A corpus: JSONL or a JSON array.
    case records
    /// One JSON document.
    case json
    /// A file that a run wrote.
    case result
    /// A SentencePiece tokenizer model.
    case sentencePiece
    /// A safetensors file.
    case safetensors
    /// A NumPy archive of arrays (.npz).
    case npz
    /// A NumPy array (.npy).
    case npy

    fileprivate var name: String {
        switch self {
        case .records: "JSONL"
        case .json: "JSON"
        case .result: "a file that a run wrote"
        case .sentencePiece: "a SentencePiece model"
        case .safetensors: "safetensors"
        case .npz: "an .npz archive"
        case .npy: "a .npy array"
        }
    }
}

/// The error for a file that is not of the kind that its reader expects.
public struct UnexpectedFileError: Error, Equatable, CustomStringConvertible {
    /// The path of the file.
    public let path: String
    /// The kind that was found.
    public let kind: FileKind
    /// What the file is and the next step, as a phrase that follows the path.
    public let sentence: String

    /// The same error, in the words for a file that a run wrote. Nil if the kind alone does not show what is wrong.
    public var ofResult: UnexpectedFileError? {
        kind.sentence(insteadOf: .result).map {
            UnexpectedFileError(path: path, kind: kind, sentence: $0)
        }
    }

    /// The path and the sentence: "model.safetensors: is a Git LFS pointer, …".
    public var description: String { "\(path): \(sentence)" }
}

extension MappedFile {
    /// The kind of the file. Nil if its first bytes cannot be read or are not recognised.
    public var kind: FileKind? {
        let front = 0..<min(bytes.count, FileKind.head)
        guard (try? load(front)) != nil else { return nil }
        return withBytes {
            FileKind(UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: $0[front])))
        }
    }

    /// Returns the error to throw after a reader of this file failed with `error`. If the file is not of the kind
    /// `expected`, this is an `UnexpectedFileError`. Otherwise it is `error`.
    public func explained(_ error: any Error, as expected: ExpectedFile) -> any Error {
        guard let kind, let sentence = kind.sentence(insteadOf: expected) else {
            return error
        }
        return UnexpectedFileError(path: path, kind: kind, sentence: sentence)
    }
}

extension MappedFile {
    /// Reads the file as one JSON object. Throws `UnexpectedFileError` if the file is not of the kind `expected`, or
    /// holds a server's error answer. If the file is no JSON object for another reason, `failure` makes the error
    /// from the reason.
    public func jsonObject(
        as expected: ExpectedFile = .json, or failure: (_ reason: String) -> any Error
    ) throws -> JSONObject {
        let value: JSONValue
        do {
            value = try parsedJSON()
        } catch {
            throw explained(failure("is not JSON: \(error)"), as: expected)
        }
        guard let object = value.object else {
            throw explained(
                failure("is \(value.excerpt), expected a JSON object"), as: expected)
        }
        try checkIsNoAnswer()
        return object
    }

    /// Throws `UnexpectedFileError` if this file holds an error answer of a server, also if the answer is JSON.
    public func checkIsNoAnswer() throws(UnexpectedFileError) {
        guard let kind, case .refusal = kind, let sentence = kind.sentence(insteadOf: .json) else {
            return
        }
        throw UnexpectedFileError(path: path, kind: kind, sentence: sentence)
    }
}

extension FileKind {
    /// Whether the file is text, apart from UTF-16, UTF-32, and JSON with a byte order mark.
    public var isText: Bool {
        switch self {
        case .empty, .encoded, .marked: false
        default: !isBinary
        }
    }

    /// Returns what the file is, and the next step: "is parquet, not JSONL; convert it…". Nil if the file may be of
    /// the expected kind.
    public func sentence(insteadOf expected: ExpectedFile) -> String? {
        switch (self, expected) {
        case (.safetensors, .safetensors), (.npz, .npz), (.archive(_, "unzip"), .npz), (.npy, .npy),
            (.json, .json), (.json, .records), (.json, .result), (.sentencePiece, .sentencePiece):
            nil
        // The corpus reader itself reports a file without records.
        case (.empty, .records): nil
        // The reader of result files can describe the damage more exactly.
        case (.empty, .result), (.text, .result): nil
        default: "\(found(insteadOf: expected)); \(nextStep(expected))"
        }
    }

    /// The kind in a few words: "parquet".
    public var name: String {
        switch self {
        case .empty: "empty"
        case .zeros: "NUL bytes"
        case .pointer(let tool, _, _): "a \(tool) pointer"
        case .webPage: "a web page (HTML)"
        case .xml(let root): root.isEmpty ? "XML" : "XML (<\(root)>)"
        case .refusal: "a server's answer"
        case .compressed(let name, _): "compressed with \(name)"
        case .archive(let name, _), .table(let name, _), .other(let name): name
        case .safetensors: "safetensors"
        case .npz: "an .npz archive"
        case .npy: "a .npy array"
        case .torch: "a PyTorch file (pickle)"
        case .pickle: "a Python pickle"
        case .gguf: "GGUF (weights for llama.cpp)"
        case .sentencePiece: "a SentencePiece model"
        case .json: "JSON"
        case .encoded(let name): name
        case .marked: "UTF-8 with a byte order mark"
        case .text: "text"
        }
    }

    private func found(insteadOf expected: ExpectedFile) -> String {
        switch self {
        case .empty: "is empty, \(expected.name) was expected"
        case .zeros:
            "begins with only NUL bytes, as after a crash or an interrupted download"
        case .pointer(_, _, let size):
            "is \(name), not the file itself\(size.map { " (\($0) bytes)" } ?? "")"
        case .webPage(let title):
            "is \(name)\(title.map { " titled '\($0)'" } ?? ""), not \(expected.name)"
        case .refusal(let words): "holds \(name) in place of the file: '\(words)'"
        case .encoded: "is \(name), not UTF-8"
        case .marked: "begins with a byte order mark"
        case .text(let beginning): "is \(name), not \(expected.name): it begins '\(beginning)'"
        default: "is \(name), not \(expected.name)"
        }
    }

    private func nextStep(_ expected: ExpectedFile) -> String {
        let again =
            expected == .result
            ? "run the same command again to make the file again" : "download or export it again"
        let isCorpus = expected == .records
        return switch self {
        case .zeros where isCorpus:
            "restore the file, or remove the NUL bytes: tr -d '\\000' < FILE > NEW"
        case .pointer(_, let command, _):
            "run `\(command)` in its folder, or download the file again"
        case .webPage:
            "a sign-in page or an error page was saved in its place: download the file itself again"
        case .refusal:
            "get access to the file (its web page says how; the Hub needs a token in HF_TOKEN), and download it again"
        case .encoded(let name): "convert it: iconv -f \(name) -t UTF-8 FILE > NEW"
        case .marked: "remove it: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE"
        case .compressed(let name, let command):
            isCorpus
                ? "decompress it: \(command) (plain, gzip and zstd files are read, not \(name))"
                : "decompress it: \(command)"
        case .archive(_, let command): "extract the file from it: \(command)"
        case .table(_, let reader) where isCorpus:
            "convert it to JSONL, e.g. with pandas: \(reader)(FILE).to_json(NEW, orient='records', lines=True)"
        case .torch where expected == .safetensors, .pickle where expected == .safetensors:
            "a pickle can run code when it is opened, so it is not read: save its tensors with safetensors.torch.save_file"
        case .torch where expected == .npz, .pickle where expected == .npz:
            "a pickle can run code when it is opened, so it is not read: save its arrays with numpy.savez"
        case .gguf: "give the original checkpoint in safetensors format"
        case .xml where isCorpus, .pickle where isCorpus, .other where isCorpus,
            .text where isCorpus:
            "write one JSON object a line, {\"style\": AUTHOR, \"text\": TEXT} (--author_field and --text_field name other keys)"
        default: again
        }
    }
}
