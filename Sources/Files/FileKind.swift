// Detects the kind of a file from its first bytes. If a reader gets a file of the wrong kind, its error can name this
// kind and the next step.

import Glibc

/// The kind of a file, such as gzip, safetensors or a web page.
public enum FileKind: Equatable, Sendable {
    /// An empty file.
    case empty
    /// A file whose first 512 bytes (or all bytes, if fewer) are NUL.
    case zeros
    /// A small file that stands for a large file in a Git clone, for example a Git LFS pointer. `command` replaces it
    /// by the large file. `size` is the size of the large file in bytes, nil if unknown.
    case pointer(tool: String, command: String, size: Int?)
    /// HTML; `title` is the title of the page, nil if none was found.
    case webPage(title: String?)
    /// XML; `root` is the name of the root element, empty if none was found.
    case xml(root: String)
    /// A server's error answer that was saved in place of the requested file. The string is the answer, shortened.
    case refusal(String)
    /// A compressed stream, which `command` decompresses.
    case compressed(name: String, command: String)
    /// An archive of files, which `command` extracts.
    case archive(name: String, command: String)
    /// A table, which the pandas function `reader` reads.
    case table(name: String, reader: String)
    /// A safetensors file.
    case safetensors
    /// A NumPy archive of arrays (.npz).
    case npz
    /// A NumPy array (.npy).
    case npy
    /// A file of PyTorch's `torch.save`, in any of its formats.
    case torch
    /// A Python pickle that is not recognised as PyTorch's.
    case pickle
    /// Weights for llama.cpp (GGUF and its predecessors).
    case gguf
    /// A SentencePiece tokenizer model.
    case sentencePiece
    /// JSON. The text begins with `{` or `[`, or is a single JSON word or number.
    case json
    /// Text in another encoding than UTF-8; the string is iconv's name of the encoding.
    case encoded(String)
    /// JSON in UTF-8 with a byte order mark (BOM) before it, or a text with a BOM after its start.
    case marked
    /// Any other text. The string is the beginning of the text.
    case text(String)
    /// A known format that this program does not read. The string is the name of the format.
    case other(String)

    /// gzip with any number of members.
    public static let gzip = FileKind.compressed(name: "gzip", command: "gzip -d")
    /// Zstandard, also if the file begins with a skippable frame.
    public static let zstd = FileKind.compressed(name: "zstd", command: "zstd -d")

    /// The number of bytes at the start of a file that are examined.
    public static let head = 4096

    /// Detects the kind of a file from `bytes`: all its bytes, or at least the first `FileKind.head` bytes. Nil if
    /// the kind is unknown.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        let head = Array(bytes.prefix(FileKind.head))
        if head.isEmpty {
            self = .empty
        } else if head.prefix(512).allSatisfy({ $0 == 0 }) {
            self = .zeros
        } else if let found = FileKind.marks.first(where: { $0.fits(head) })?.kind
            ?? FileKind.byStructure(head) ?? FileKind.ofRecords(head) ?? FileKind.encoding(head)
            ?? FileKind.ofText(head)
        {
            self = found
        } else {
            return nil
        }
    }

    /// Detects the kind of the regular file at `path`. Nil if the kind is unknown, if the file cannot be read, or if
    /// it is not a regular file.
    public init?(path: String) {
        // O_NONBLOCK: without this flag, opening a FIFO would wait for a process that writes to it.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { return nil }
        var head = [UInt8](repeating: 0, count: FileKind.head)
        let count = head.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
        guard count >= 0 else { return nil }
        let kind = head.withUnsafeBytes {
            FileKind(UnsafeRawBufferPointer(rebasing: $0[..<count]))
        }
        guard let kind else { return nil }
        self = kind
    }

    /// Whether the file is certainly not text in any encoding. True for kinds that have bytes that no text has.
    public var isBinary: Bool {
        switch self {
        case .zeros, .compressed, .archive, .safetensors, .npz, .npy, .torch, .pickle, .gguf,
            .sentencePiece, .other:
            true
        case .table(_, let reader): !["read_csv", "read_table"].contains(reader)
        default: false
        }
    }

    // MARK: Marks

    /// A magic number: bytes at a fixed offset that every file of a kind has.
    private struct Mark {
        let bytes: [UInt8]
        let offset: Int
        let kind: FileKind

        init(_ bytes: [UInt8], at offset: Int = 0, _ kind: FileKind) {
            (self.bytes, self.offset, self.kind) = (bytes, offset, kind)
        }

        init(_ text: String, at offset: Int = 0, _ kind: FileKind) {
            self.init(Array(text.utf8), at: offset, kind)
        }

        func fits(_ head: [UInt8]) -> Bool {
            head.count >= offset + bytes.count && head[offset...].starts(with: bytes)
                // A text can begin with the same letters as a short magic number. So a short magic number of letters
                // counts only if `head` has a byte below 0x09, which a text does not have.
                && (bytes.count > 4 || bytes.contains { !(0x20..<0x7F).contains($0) }
                    || head.contains { $0 < 0x09 })
        }
    }

    private static let arrow = FileKind.table(name: "Arrow (Feather)", reader: "read_feather")
    private static let office = FileKind.other("an Office document (.xls, .doc)")

    private static let marks: [Mark] =
        [
            Mark([0x1F, 0x8B], gzip), Mark([0x28, 0xB5, 0x2F, 0xFD], zstd),
            Mark(
                [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0], .compressed(name: "xz", command: "xz -d")),
            Mark("1AY&SY", at: 4, .compressed(name: "bzip2", command: "bzip2 -d")),
            Mark([0x04, 0x22, 0x4D, 0x18], .compressed(name: "lz4", command: "lz4 -d")),
            Mark([0x02, 0x21, 0x4C, 0x18], .compressed(name: "lz4", command: "lz4 -d")),
            Mark("LZIP", .compressed(name: "lzip", command: "lzip -d")),
            Mark([0x89, 0x4C, 0x5A, 0x4F, 0], .compressed(name: "lzop", command: "lzop -d")),
            Mark([0x1F, 0x9D], .compressed(name: "compress", command: "gzip -d")),
            Mark([0x5D, 0, 0], .compressed(name: "lzma", command: "xz --format=lzma -d")),
            Mark(
                [0xFF, 6, 0, 0] + Array("sNaPpY".utf8),
                .compressed(name: "snappy", command: "snzip -d")),
            Mark("ustar", at: 257, .archive(name: "a tar archive", command: "tar -xf")),
            Mark(
                [0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C],
                .archive(name: "a 7z archive", command: "7z x")),
            Mark("Rar!\u{1A}\u{7}", .archive(name: "a RAR archive", command: "unrar x")),
            Mark("PAR1", .table(name: "parquet", reader: "read_parquet")),
            Mark("ARROW1", arrow), Mark("FEA1", arrow),
            Mark("ORC", .table(name: "ORC", reader: "read_orc")),
            Mark("Obj\u{1}", .other("Avro")), Mark("SQLite format 3\0", .other("SQLite")),
            Mark("DUCK", at: 8, .other("DuckDB")),
            Mark([0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A], .other("HDF5")),
            Mark([0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A], at: 512, .other("HDF5")),
            Mark("MATLAB 5.0", .other("MATLAB")), Mark("RDX2\n", .other("R data")),
            Mark("RDX3\n", .other("R data")),
            Mark([0x93] + Array("NUMPY".utf8), .npy), Mark("GGUF", .gguf),
            Mark("lmgg", .gguf), Mark("tjgg", .gguf), Mark("fmgg", .gguf),
            Mark("%PDF-", .other("PDF")), Mark("{\\rtf", .other("RTF")),
            Mark([0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1], office),
            Mark([0x89] + Array("PNG".utf8), .other("a PNG image")),
            Mark([0xFF, 0xD8, 0xFF], .other("a JPEG image")),
            Mark([0x7F] + Array("ELF".utf8), .other("a program (ELF)")),
            Mark("bplist00", .other("a binary property list")),
            // The magic number of the old format of torch.save, from before PyTorch wrote ZIP archives.
            Mark([0x80, 2, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20], .torch),
        ]
        + [[0x78, 0x01], [0x78, 0x9C], [0x78, 0xDA]].map {
            Mark($0, .compressed(name: "zlib", command: "pigz -dz"))
        }

    // MARK: Structure

    /// Recognises kinds for which one magic number is not enough, such as ZIP archives. Nil for other kinds.
    private static func byStructure(_ head: [UInt8]) -> FileKind? {
        func u16(_ i: Int) -> Int { Int(head[i]) | Int(head[i + 1]) << 8 }
        if head.count >= 4, head[0] & 0xF0 == 0x50, head[1...3].elementsEqual([0x2A, 0x4D, 0x18]) {
            return zstd  // a skippable frame
        }
        if head.starts(with: Array("PK".utf8)), head.count >= 4,
            [[3, 4], [5, 6], [7, 8]].contains(Array(head[2..<4]))
        {
            guard head.count >= 30, head[2] == 3 else { return ofArchive("") }
            return ofArchive(
                String(decoding: head[30...].prefix(u16(26)), as: UTF8.self))
        }
        if head.count >= 9, head[8] == UInt8(ascii: "{"), head[4..<8].allSatisfy({ $0 == 0 }) {
            return .safetensors
        }
        if head.count >= 512, isOldTar(head) {
            return .archive(name: "a tar archive", command: "tar -xf")
        }
        if head.count >= 8, head[..<4].allSatisfy({ $0 == 0xFF }), head[7] == 0 {
            return .table(name: "an Arrow stream", reader: "read_feather")
        }
        if head.count >= 3, head[0] == 0x80, (2...5).contains(head[1]),
            // The opcode FRAME, or one of the other opcodes with which most pickles begin.
            [0x95, 0x7D, 0x5D, 0x28, 0x63, 0x58, 0x8C, 0x71].contains(head[2])
        {
            return .pickle
        }
        // A SentencePiece model (protobuf) begins with its first piece. Field 1 of a piece is its text, and field 2
        // is its score (a float).
        if head.count > 5, head[0] == 0x0A, head[2] == 0x0A, head[1] < 0x80, head[3] < head[1],
            head.count > 4 + Int(head[3]), head[4 + Int(head[3])] == 0x15
        {
            return .sentencePiece
        }
        return nil
    }

    /// Returns the kind of a ZIP archive from the name of its first member.
    private static func ofArchive(_ member: String) -> FileKind {
        if member.hasSuffix(".npy") { return .npz }
        if member.hasSuffix("data.pkl") || member.hasSuffix("/.format_version")
            || member.hasSuffix("/byteorder")
        {
            return .torch
        }
        if member == "[Content_Types].xml"
            || ["xl/", "word/", "_rels/"].contains(where: member.hasPrefix)
        {
            return .table(
                name: "a spreadsheet or another Office document (.xlsx, a zip archive)",
                reader: "read_excel")
        }
        return .archive(name: "a zip archive", command: "unzip")
    }

    /// Whether `head` is a tar header from before POSIX. It has a checksum in place of a magic number: the sum of its
    /// bytes, where the bytes of the checksum itself count as eight spaces.
    private static func isOldTar(_ head: [UInt8]) -> Bool {
        let digits = head[148..<156].filter { (0x30...0x37).contains($0) }
        guard digits.count >= 4, let sum = Int(String(decoding: digits, as: UTF8.self), radix: 8)
        else { return false }
        let total =
            head[..<148].reduce(0) { $0 + Int($1) } + 8 * 0x20
            + head[156..<512].reduce(0) { $0 + Int($1) }
        return total == sum
    }

    // MARK: Encodings

    /// Recognises UTF-32 and UTF-16 by a byte order mark. Without a mark, recognises them by ASCII characters at the
    /// start, with which JSON and most other texts begin.
    private static func encoding(_ head: [UInt8]) -> FileKind? {
        func begins(_ mark: [UInt8]) -> Bool { head.starts(with: mark) }
        if begins([0xFF, 0xFE, 0, 0]) || begins([0, 0, 0xFE, 0xFF]) { return .encoded("UTF-32") }
        if begins([0xFF, 0xFE]) || begins([0xFE, 0xFF]) { return .encoded("UTF-16") }
        func isASCII(_ byte: UInt8) -> Bool {
            (0x20..<0x7F).contains(byte) || [0x09, 0x0A, 0x0D].contains(byte)
        }
        for (name, width, place) in [
            ("UTF-32LE", 4, 0), ("UTF-32BE", 4, 3), ("UTF-16LE", 2, 0), ("UTF-16BE", 2, 1),
        ] {
            // Only the first two characters of JSON are surely ASCII, so only these two are tested.
            let isJSON = head.count > place && [0x5B, 0x7B].contains(head[place])
            let units = min(isJSON ? 2 : 8, head.count / width)
            guard units >= 2 else { continue }
            let isAll = (0..<units * width).allSatisfy {
                $0 % width == place ? isASCII(head[$0]) : head[$0] == 0
            }
            if isAll { return .encoded(name) }
        }
        return nil
    }
}
