// A file of another kind than its reader's: what it is, and what to do.

import ByteJSON

/// What a reader expects a file to be.
public enum ExpectedFile: Sendable {
    /// A corpus: JSONL or a JSON array.
    case records
    /// One JSON document.
    case json
    /// One that a run wrote.
    case result
    /// A tokenizer's model.
    case sentencePiece
    /// Tensors.
    case safetensors
    /// An archive of arrays.
    case npz
    /// One array.
    case npy

    fileprivate var name: String {
        switch self {
        case .records: "JSONL"
        case .json: "JSON"
        case .result: "what a run wrote"
        case .sentencePiece: "a SentencePiece model"
        case .safetensors: "safetensors"
        case .npz: "an .npz archive"
        case .npy: "a .npy array"
        }
    }
}

/// A file that is of another kind than its reader's.
public struct UnexpectedFileError: Error, Equatable, CustomStringConvertible {
    /// The file.
    public let path: String
    /// What it is.
    public let kind: FileKind
    /// What it is and what to do about it, to be put after the path.
    public let sentence: String

    /// The same where a run wrote the file; nil where the kind alone does not tell what is wrong.
    public var ofResult: UnexpectedFileError? {
        kind.sentence(insteadOf: .result).map {
            UnexpectedFileError(path: path, kind: kind, sentence: $0)
        }
    }

    /// "model.safetensors: is a Git LFS pointer, …".
    public var description: String { "\(path): \(sentence)" }
}

extension MappedFile {
    /// What it is; nil where its first bytes tell nothing.
    public var kind: FileKind? {
        let front = 0..<min(bytes.count, FileKind.head)
        guard (try? load(front)) != nil else { return nil }
        return withBytes {
            FileKind(UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: $0[front])))
        }
    }

    /// What a reader throws that took this file for an `expected` one and failed with `error`: an `UnexpectedFileError`
    /// where the file is of another kind that is known, else `error`.
    public func explained(_ error: any Error, as expected: ExpectedFile) -> any Error {
        guard let kind, let sentence = kind.sentence(insteadOf: expected) else {
            return error
        }
        return UnexpectedFileError(path: path, kind: kind, sentence: sentence)
    }
}

extension MappedFile {
    /// The file's content, one JSON object. Throws `UnexpectedFileError` where the file is of another kind than `expected`,
    /// or holds what a server said in its place, else what `failure` makes of the reason.
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

    /// Fails where this file, JSON as it may be, holds what a server said in its place. Throws `UnexpectedFileError`.
    public func checkIsNoAnswer() throws(UnexpectedFileError) {
        guard let kind, case .refusal = kind, let sentence = kind.sentence(insteadOf: .json) else {
            return
        }
        throw UnexpectedFileError(path: path, kind: kind, sentence: sentence)
    }
}

extension FileKind {
    /// Whether it is told by what a text says.
    public var isText: Bool {
        switch self {
        case .empty, .encoded, .marked: false
        default: !isBinary
        }
    }

    /// "is parquet, not JSONL; convert it…"; nil where this is what is expected, or may be.
    public func sentence(insteadOf expected: ExpectedFile) -> String? {
        switch (self, expected) {
        case (.safetensors, .safetensors), (.npz, .npz), (.archive(_, "unzip"), .npz), (.npy, .npy),
            (.json, .json), (.json, .records), (.json, .result), (.sentencePiece, .sentencePiece):
            nil
        // The corpus' reader says that there are no records.
        case (.empty, .records): nil
        // Of damage its reader knows more.
        case (.empty, .result), (.text, .result): nil
        default: "\(found(insteadOf: expected)); \(nextStep(expected))"
        }
    }

    /// What it is, in a few words: "parquet".
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
        case .pickle: "a pickle of Python's"
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
            "begins with nothing but NUL bytes, as after a crash or a download that was broken off"
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
            ? "run the same command again to have it made anew" : "download or export it again"
        let isCorpus = expected == .records
        return switch self {
        case .zeros where isCorpus: "restore the file, or cut them off: tr -d '\\000'"
        case .pointer(_, let command, _):
            "run `\(command)` in its folder, or download the file again"
        case .webPage:
            "a page to sign in or of an error was saved in its place: download the file itself again"
        case .refusal: "get access to it (its page says how; give a token), and download it again"
        case .encoded(let name): "convert it: iconv -f \(name) -t UTF-8"
        case .marked: "remove it: sed -i '1s/^\\xEF\\xBB\\xBF//'"
        case .compressed(let name, let command):
            isCorpus
                ? "decompress it: \(command) (plain, gzip and zstd files are read, not \(name))"
                : "decompress it: \(command)"
        case .archive(_, let command): "take the file out of it: \(command)"
        case .table(_, let reader) where isCorpus:
            "convert it to JSONL, e.g. with pandas: \(reader)(FILE).to_json(NEW, orient='records', lines=True)"
        case .torch where expected == .safetensors, .pickle where expected == .safetensors:
            "it could run programs when opened, and is not read: save its tensors with safetensors.torch.save_file"
        case .torch where expected == .npz, .pickle where expected == .npz:
            "it could run programs when opened, and is not read: save its arrays with numpy.savez"
        case .gguf: "give the checkpoint as published, in safetensors"
        case .xml where isCorpus, .pickle where isCorpus, .other where isCorpus,
            .text where isCorpus:
            "write one JSON object a line, {\"style\": AUTHOR, \"text\": TEXT} (--author_field and --text_field name other keys)"
        default: again
        }
    }
}
