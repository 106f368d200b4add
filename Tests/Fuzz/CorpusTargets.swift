// Fuzz targets for corpora: JSONL, and gzip and zstd streams.

import ByteJSON
import CZstd
import Files
import TestSupport

@testable import Corpus

extension FuzzTarget {
    static let corpora = [corpus, gzip, zstd]

    /// Raises libFuzzer's limit on one allocation. A zstd stream may ask for a window of 2 GB (`zstd --long=31`). The
    /// reader reserves the whole window, but uses its memory only as data arrive.
    private static let windowArguments = ["-malloc_limit_mb=2300"]

    private static let corpus = FuzzTarget(
        "corpus",
        dictionary: jsonWords + [
            "{\"style\":\"", "\",\"text\":\"", "\"}\n", "[{", "},{", "}]", "\r\n",
        ],
        arguments: windowArguments
    ) {
        let records = try corpusLines().prefix(3)
        return [
            Array(records.joined(separator: [0x0A])),
            [0x5B] + Array(records.joined(separator: [0x2C, 0x0A])) + [0x5D],
            Array(
                "{\"style\": \"a\", \"text\": \"b c\"}\r\n\n{\"text\": \"\", \"style\": \"\"}".utf8),
        ]
    } body: { input in
        // A compressed copy of the input must give the same corpus as the input itself.
        let plain = Result { try documents(Workspace.file(input)) }
        let kind = FileKind(UnsafeRawBufferPointer(input))
        let isCompressed = kind == FileKind.gzip || kind == FileKind.zstd
        if !isCompressed {
            let packed = Result { try documents(Workspace.file(compressed(input, .gzip))) }
            // If both files are refused, the messages may differ, because only one mentions the compression.
            let isSame = (try? plain.get()) == (try? packed.get())
            check(isSame, "plain: \(plain); compressed: \(packed)")
        }
        let lines = 1 + input.count { $0 == 0x0A }
        for author in try plain.get() {
            check(!author.documents.isEmpty, "an author without documents")
            var before = 1
            for document in author.documents {
                check(
                    isCompressed || (before...lines).contains(document.line),
                    "a document on line \(document.line) of \(lines), after line \(before)")
                before = document.line
            }
        }
    }

    private static let gzip = FuzzTarget("gzip", dictionary: ["\u{1F}\u{8B}\u{08}"]) {
        let text = Array(try corpusLines().prefix(2).joined(separator: [0x0A]))
        let member = text.withUnsafeBufferPointer { compressed($0, .gzip) }
        return [member, member + member, member + [0, 0, 0], Array("text".utf8)]
    } body: { input in
        checkStream(input, compressed(input, .gzip), least: 2)
        try contents(Workspace.file(input))
    }

    private static let zstd = FuzzTarget("zstd", arguments: windowArguments) {
        let text = Array(try corpusLines().prefix(2).joined(separator: [0x0A]))
        let frame = text.withUnsafeBufferPointer { compressed($0, .zstd) }
        let skipped: [UInt8] = [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3]
        return [frame, frame + frame, skipped + frame]
    } body: { input in
        checkStream(input, compressed(input, .zstd), least: 4)
        try contents(Workspace.file(input))
    }
}

/// A compression format.
private enum Packing {
    case gzip
    case zstd
}

private func corpusLines() throws -> [ArraySlice<UInt8>] {
    try TestData.bytes("\(TestData.tiny)/authormix.jsonl").split(separator: 0x0A)
}

private func documents(_ path: String) throws -> [AuthorDocuments] {
    var selection = Selection()
    selection.minimumWords = 0
    return try Corpus.read(paths: [path], selection).authors
}

/// Reads and unpacks a file. Stops after 16 MB of unpacked data.
@discardableResult
private func contents(_ path: String) throws -> [UInt8] {
    let source = try ByteSource(path: path)
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    var all: [UInt8] = []
    while all.count < 1 << 24 {
        let count = try buffer.withUnsafeMutableBytes { try source.read(into: $0) }
        if count == 0 { break }
        all += buffer[..<count]
    }
    return all
}

private func compressed(
    _ bytes: UnsafeBufferPointer<UInt8>, _ packing: Packing
) -> [UInt8] {
    var out: [UInt8] = []
    if packing == .gzip {
        try! Deflater(.gzip, level: 1).write(UnsafeRawBufferPointer(bytes), finish: true) {
            out += $0
        }
        return out
    }
    out = [UInt8](repeating: 0, count: ZSTD_compressBound(bytes.count))
    let count = ZSTD_compress(&out, out.count, bytes.baseAddress, bytes.count, 1)
    check(ZSTD_isError(count) == 0, "ZSTD_compress failed")
    return Array(out[..<count])
}

/// Checks that `packed` unpacks to `input`, and that a truncated `packed` is refused. It is cut to at least `least`
/// bytes, at a place that depends on the input.
private func checkStream(_ input: UnsafeBufferPointer<UInt8>, _ packed: [UInt8], least: Int) {
    let back = try! contents(Workspace.file(packed))
    check(back.elementsEqual(input), "compressing and reading changes the bytes")
    let length =
        least + (Int(input.first ?? 0) << 8 | Int(input.last ?? 0)) % (packed.count - least)
    check(
        (try? contents(Workspace.file(Array(packed[..<length])))) == nil,
        "the first \(length) of \(packed.count) bytes are accepted as a whole stream")
}
